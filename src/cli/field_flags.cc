#include "cli/field_flags.h"

#include <string_view>

namespace liveavatar::cli {
namespace {

struct FieldFlag {
  std::string_view field, flag;
};

// A field with its value comes before the field alone. tests/messages reads this table.
constexpr FieldFlag kFieldFlags[] = {
    {"`int8_products` false", "--activations_dtype same"},
    {"`online_decode` true", "--enable_online_decode"},
    {"`audio_encoder`", "--audio_encoder"},
    {"`audio`", "--audio"},
    {"`checkpoint_dir`", "--ckpt_dir"},
    {"`decode_threads`", "--decode_threads"},
    {"`device`", "--device"},
    {"`dit_path`", "--dit"},
    {"`dtype`", "--dtype"},
    {"`fit`", "--fit"},
    {"`image`", "--image"},
    {"`infer_frames`", "--infer_frames"},
    {"`int8_products`", "--activations_dtype int8"},
    {"`kv_dtype`", "--kv_dtype"},
    {"`lora_path`", "--lora_path_dmd"},
    {"`loras`", "--lora"},
    {"`masks`", "--mask"},
    {"`memory_budget_bytes`", "--memory_budget"},
    {"`num_clip`", "--num_clip"},
    {"`offload_kv_cache`", "--offload_kv_cache"},
    {"`packed_dit`", "--dit"},
    {"`paging_dir`", "--paging_dir"},
    {"`pose_video`", "--pose_video"},
    {"`prompt`", "--prompt"},
    {"`resident_layers`", "--resident_layers"},
    {"`resident_kv_caches`", "--resident_kv_caches"},
    {"`sample_shift`", "--sample_shift"},
    {"`sample_solver`", "--sample_solver"},
    {"`sample_steps`", "--sample_steps"},
    {"`schedule`", "--schedule"},
    {"`seed`", "--base_seed"},
    {"`sessions`", "--sessions"},
    {"`shape`", "--shape"},
    {"`size`", "--size"},
    {"`text_encoder`", "--text_encoder"},
    {"`threads`", "--threads"},
    {"`tokenizer`", "--tokenizer"},
    {"`vae`", "--vae"},
    {"`weights_dtype`", "--weights_dtype"},
};

// Of what the text begins with; null: of no field.
const FieldFlag* row_of(std::string_view text) {
  for (const FieldFlag& row : kFieldFlags) {
    if (text.starts_with(row.field)) return &row;
  }
  return nullptr;
}

}  // namespace

std::string in_flags(const std::string& line) {
  constexpr std::string_view kAnd = " + ";  // between settings; flags stand side by side
  std::string shown;
  for (std::string_view rest = line; !rest.empty();) {
    const bool joins = rest.starts_with(kAnd) && row_of(rest.substr(kAnd.size())) != nullptr;
    const FieldFlag* row = row_of(rest);
    if (joins) {
      shown += ' ';
      rest.remove_prefix(kAnd.size());
    } else if (row != nullptr) {
      shown += row->flag;
      rest.remove_prefix(row->field.size());
    } else {
      shown += rest.front();
      rest.remove_prefix(1);
    }
  }
  return shown;
}

}  // namespace liveavatar::cli
