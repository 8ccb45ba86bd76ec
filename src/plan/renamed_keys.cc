#include "plan/renamed_keys.h"

namespace liveavatar {
namespace {

struct RenamedKey {
  const char *name, *old_name;  // JSON pointers
};

constexpr RenamedKey kRenamedKeys[] = {
    {"/memory_by_category", "/tenants"},
    {"/suggestions", "/cures"},
    {"/paging/kv_caches", "/paging/rings"},
    {"/paging/resident_kv_caches", "/paging/resident_rings"},
    {"/paging/kv_cache_bytes_per_block", "/paging/ring_bytes_per_block"},
    {"/resident_kv_caches", "/resident_rings"},
    {"/kv_cache_bytes_per_block", "/ring_bytes_per_block"},
    {"/seconds/waited_for_pages", "/seconds/waited_for_disk"},
    {"/kv_cache_bytes_read", "/ring_bytes_read"},
    {"/kv_cache_bytes_written", "/ring_bytes_written"},
    {"/blocks_in_flight", "/in_flight"},
    {"/ticks", "/turns"},
};

}  // namespace

void add_renamed_keys(nlohmann::ordered_json& json) {
  using Pointer = nlohmann::ordered_json::json_pointer;
  for (const RenamedKey& key : kRenamedKeys) {
    if (json.contains(Pointer(key.name))) json[Pointer(key.old_name)] = nlohmann::ordered_json(json[Pointer(key.name)]);
  }
  const Pointer activations("/job/activations_dtype");
  if (json.contains(activations)) json["job"]["int8_products"] = json[activations] == "int8";
}

}  // namespace liveavatar
