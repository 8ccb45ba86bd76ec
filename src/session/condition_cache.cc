#include "session/condition_cache.h"

#include <algorithm>
#include <utility>

#include "core/rounding.h"

namespace liveavatar {
namespace {

constexpr MemoryCategory kCategory = MemoryCategory::kConditioning;

size_t bytes_of(const std::string& key, std::initializer_list<Tensor> values) {
  size_t bytes = key.size();
  for (const Tensor& value : values) bytes += round_up(value.bytes(), Allocator::kPageBytes);
  return bytes;
}

}  // namespace

Expected<std::unique_ptr<ConditionCache>> ConditionCache::open(Budget& host, size_t limit_bytes) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Budget> budget, Budget::open_within(host, limit_bytes));
  return std::unique_ptr<ConditionCache>(new ConditionCache(std::move(budget)));
}

std::string ConditionCache::prompt_key(std::span<const int32_t> ids) {
  return "prompt " + std::string(reinterpret_cast<const char*>(ids.data()), ids.size_bytes());
}

std::string ConditionCache::portrait_key(std::span<const uint8_t> rgb, int64_t height, int64_t width) {
  return "portrait " + std::to_string(width) + "x" + std::to_string(height) + " " +
         std::string(reinterpret_cast<const char*>(rgb.data()), rgb.size());
}

const std::vector<OwnedTensor>* ConditionCache::find(const std::string& key) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key; });
  if (found == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return &entries_.front().values;
}

Expected<ConditionCache::Entry> ConditionCache::copy(const std::string& key, std::initializer_list<Tensor> values) {
  Entry entry;
  LA_ASSIGN_OR_RETURN(entry.key_charge, Charge::acquire(*budget_, kCategory, key.size()));
  entry.key = key;
  for (const Tensor& value : values) {
    LA_ASSIGN_OR_RETURN(OwnedTensor kept, OwnedTensor::allocate(*budget_, kCategory, value.shape, value.dtype));
    std::copy_n(value.host<float>(), value.elements(), kept.tensor.host<float>());
    entry.values.push_back(std::move(kept));
  }
  return entry;
}

void ConditionCache::keep(const std::string& key, std::initializer_list<Tensor> values) {
  const size_t wanted = bytes_of(key, values);
  if (wanted > budget_->limit_bytes()) return;
  while (budget_->left_bytes() < wanted) entries_.pop_back();
  Expected<Entry> entry = copy(key, values);
  if (entry.ok()) entries_.push_front(*std::move(entry));  // else the system has no memory: do without
}

}  // namespace liveavatar
