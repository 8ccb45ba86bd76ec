#include "cli/field_flags.h"

#include <string_view>
#include <vector>

#include "core/text.h"

namespace liveavatar::cli {
namespace {

struct FieldFlag {
  std::string_view field, flag;
};

// A field with its value comes before the field alone. tests/messages reads this table.
constexpr FieldFlag kFieldFlags[] = {
    {"`int8_products` false", "--activations_dtype same"},
    {"`decode_beside` false", "--no_decode_beside"},
    {"`online_decode` true", "--enable_online_decode"},
    {"`access_log`", "--access_log"},
    {"`allow_host`", "--allow_host"},
    {"`audio_encoder`", "--audio_encoder"},
    {"`audio`", "--audio"},
    {"`cache_bytes`", "--cache_memory"},
    {"`chat_url`", "--chat_url"},
    {"`check_finite`", "--check_finite"},
    {"`checkpoint_dir`", "--ckpt_dir"},
    {"`context_seconds`", "--context_seconds"},
    {"`cors_origin`", "--cors_origin"},
    {"`decode_threads`", "--decode_threads"},
    {"`device`", "--device"},
    {"`devices`", "--devices"},
    {"`dit_path`", "--dit"},
    {"`dtype`", "--dtype"},
    {"`fit`", "--fit"},
    {"`host_budget_bytes`", "--host_budget"},
    {"`host`", "--host"},
    {"`ice_server`", "--ice_server"},
    {"`image`", "--image"},
    {"`infer_frames`", "--infer_frames"},
    {"`int8_products`", "--activations_dtype int8"},
    {"`kv_dtype`", "--kv_dtype"},
    {"`look_ahead_seconds`", "--look_ahead_seconds"},
    {"`lora_alpha`", "--lora_alpha"},
    {"`lora_path`", "--lora_path_dmd"},
    {"`loras`", "--lora"},
    {"`masks`", "--mask"},
    {"`memory_budget_bytes`", "--memory_budget"},
    {"`num_clip`", "--num_clip"},
    {"`num_gpus_dit`", "--num_gpus_dit"},
    {"`offload_kv_cache`", "--offload_kv_cache"},
    {"`on_nan`", "--on_nan"},
    {"`packed_dit`", "--dit"},
    {"`paging_dir`", "--paging_dir"},
    {"`portrait`", "--portrait"},
    {"`port`", "--port"},
    {"`pose_video`", "--pose_video"},
    {"`prompt`", "--prompt"},
    {"`push`", "--push"},
    {"`queue_seconds`", "--queue_seconds"},
    {"`resident_layers`", "--resident_layers"},
    {"`resident_kv_caches`", "--resident_kv_caches"},
    {"`sample_rate`", "--sample_rate"},
    {"`sample_shift`", "--sample_shift"},
    {"`sample_solver`", "--sample_solver"},
    {"`sample_steps`", "--sample_steps"},
    {"`sandbox`", "--sandbox"},
    {"`schedule`", "--schedule"},
    {"`seed`", "--base_seed"},
    {"`sessions`", "--sessions"},
    {"`shape`", "--shape"},
    {"`shard_weights`", "--dit_fsdp"},
    {"`size`", "--size"},
    {"`speech_url`", "--speech_url"},
    {"`speech_voice`", "--speech_voice"},
    {"`step_shares`", "--step_shares"},
    {"`text_encoder`", "--text_encoder"},
    {"`threads`", "--threads"},
    {"`tokenizer`", "--tokenizer"},
    {"`transcription_url`", "--transcription_url"},
    {"`tune` off", "--tune off"},
    {"`tune`", "--tune"},
    {"`ulysses_size`", "--ulysses_size"},
    {"`vae_parallel`", "--enable_vae_parallel"},
    {"`vae`", "--vae"},
    {"`video_encoder`", "--video_encoder"},
    {"`webrtc_address`", "--webrtc_address"},
    {"`weights_dtype`", "--weights_dtype"},
    {"`whip_token_file`", "--whip_token_file"},
    {"`work_dir`", "--work_dir"},
};

bool is_one_of(char c, std::string_view all) { return all.find(c) != std::string_view::npos; }

// Whether a word ends before this text: a dot belongs to a file's name unless a space follows.
bool ends_word(std::string_view text) {
  if (text.starts_with('.')) text.remove_prefix(1);
  return text.empty() || is_one_of(text.front(), " ,;:)\"");
}

// Of what the text begins with, as a word of its own; null: of no field.
const FieldFlag* row_of(std::string_view text) {
  for (const FieldFlag& row : kFieldFlags) {
    if (text.starts_with(row.field) && ends_word(text.substr(row.field.size()))) return &row;
  }
  return nullptr;
}

std::vector<std::string>& kept_texts() {
  static std::vector<std::string> texts;
  return texts;
}

// Of what the text begins with and a user wrote; 0: none.
size_t kept_bytes(std::string_view text) {
  for (const std::string& kept : kept_texts())
    if (text.starts_with(kept)) return kept.size();
  return 0;
}

}  // namespace

void keep_texts(const std::vector<std::string>& args) {
  for (const std::string& arg : args) {
    const size_t value = arg.starts_with("--") ? arg.find('=') + 1 : 0;  // 0: all of it
    const bool shows_field = arg.find('`', value) != std::string::npos;
    if (shows_field) kept_texts().push_back(one_line(arg.substr(value)));
  }
}

std::string in_flags(const std::string& message) {
  constexpr std::string_view kAnd = " + ";  // between settings; flags stand side by side
  const std::string line = one_line(message);
  std::string shown;
  for (std::string_view rest = line; !rest.empty();) {
    const bool joins = rest.starts_with(kAnd) && row_of(rest.substr(kAnd.size())) != nullptr;
    const bool begins_word = shown.empty() || is_one_of(shown.back(), " (\"");
    const FieldFlag* row = begins_word ? row_of(rest) : nullptr;
    if (const size_t kept = kept_bytes(rest); kept > 0) {
      shown += rest.substr(0, kept);
      rest.remove_prefix(kept);
    } else if (joins) {
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
