#include "c_api/fields.h"

#include <charconv>
#include <span>
#include <type_traits>
#include <variant>

namespace liveavatar {
namespace {

static_assert(std::is_same_v<size_t, uint64_t>, "a size is set as an unsigned number");

template <typename T>
struct Field {
  const char* name;
  std::variant<std::string T::*, bool T::*, int T::*, int64_t T::*, uint64_t T::*, double T::*, ComputeType T::*,
               WeightsType T::*, KvType T::*, Tune T::*, Schedule T::*, SampleSolver T::*, Fit T::*, VideoEncoder T::*,
               CheckFinite T::*, OnNan T::*>
      member;
};

constexpr Field<EngineOptions> kEngineFields[] = {
    {"checkpoint_dir", &EngineOptions::checkpoint_dir},
    {"dit_path", &EngineOptions::dit_path},
    {"text_encoder", &EngineOptions::text_encoder},
    {"vae", &EngineOptions::vae},
    {"audio_encoder", &EngineOptions::audio_encoder},
    {"tokenizer", &EngineOptions::tokenizer},
    {"lora_path", &EngineOptions::lora_path},
    {"lora_alpha", &EngineOptions::lora_alpha},
    {"device", &EngineOptions::device},
    {"devices", &EngineOptions::devices},
    {"num_gpus_dit", &EngineOptions::num_gpus_dit},
    {"ulysses_size", &EngineOptions::ulysses_size},
    {"vae_parallel", &EngineOptions::vae_parallel},
    {"step_shares", &EngineOptions::step_shares},
    {"shard_weights", &EngineOptions::shard_weights},
    {"dtype", &EngineOptions::dtype},
    {"weights_dtype", &EngineOptions::weights_dtype},
    {"kv_dtype", &EngineOptions::kv_dtype},
    {"int8_products", &EngineOptions::int8_products},
    {"tune", &EngineOptions::tune},
    {"threads", &EngineOptions::threads},
    {"decode_threads", &EngineOptions::decode_threads},
    {"decode_beside", &EngineOptions::decode_beside},
    {"memory_budget_bytes", &EngineOptions::memory_budget_bytes},
    {"host_budget_bytes", &EngineOptions::host_budget_bytes},
    {"packed_dit", &EngineOptions::packed_dit},
    {"paging_dir", &EngineOptions::paging_dir},
    {"page_weights", &EngineOptions::page_weights},
    {"offload_kv_cache", &EngineOptions::offload_kv_cache},
    {"cache_bytes", &EngineOptions::cache_bytes},
};

constexpr Field<GenerateRequest> kRequestFields[] = {
    {"image", &GenerateRequest::image},
    {"audio", &GenerateRequest::audio},
    {"original_speakers", &GenerateRequest::original_speakers},
    {"pose_video", &GenerateRequest::pose_video},
    {"original_pose", &GenerateRequest::original_pose},
    {"prompt", &GenerateRequest::prompt},
    {"size", &GenerateRequest::size},
    {"num_clip", &GenerateRequest::num_clip},
    {"infer_frames", &GenerateRequest::infer_frames},
    {"sample_steps", &GenerateRequest::sample_steps},
    {"sample_shift", &GenerateRequest::sample_shift},
    {"sample_solver", &GenerateRequest::sample_solver},
    {"seed", &GenerateRequest::seed},
    {"online_decode", &GenerateRequest::online_decode},
    {"schedule", &GenerateRequest::schedule},
    {"check_finite", &GenerateRequest::check_finite},
    {"on_nan", &GenerateRequest::on_nan},
    {"fit", &GenerateRequest::fit},
    {"video_encoder", &GenerateRequest::video_encoder},
};

constexpr Field<LiveRequest> kLiveFields[] = {
    {"image", &LiveRequest::image},
    {"prompt", &LiveRequest::prompt},
    {"size", &LiveRequest::size},
    {"fit", &LiveRequest::fit},
    {"infer_frames", &LiveRequest::infer_frames},
    {"sample_steps", &LiveRequest::sample_steps},
    {"sample_shift", &LiveRequest::sample_shift},
    {"seed", &LiveRequest::seed},
    {"sample_rate", &LiveRequest::sample_rate},
    {"context_seconds", &LiveRequest::context_seconds},
    {"look_ahead_seconds", &LiveRequest::look_ahead_seconds},
    {"queue_seconds", &LiveRequest::queue_seconds},
    {"microphone", &LiveRequest::microphone},
    {"allow_changes", &LiveRequest::allow_changes},
};

Status expected(const char* what, const std::string& name, const std::string& value) {
  return invalid_argument(name + ": \"" + value + "\" is not " + what);
}

Status parse(const std::string&, const std::string& text, std::string& out) {
  out = text;
  return {};
}

Status parse(const std::string& name, const std::string& text, bool& out) {
  if (text != "true" && text != "false") return expected("true or false", name, text);
  out = text == "true";
  return {};
}

template <typename Number>
requires std::is_arithmetic_v<Number> Status parse(const std::string& name, const std::string& text, Number& out) {
  Number number{};
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) {
    if (std::is_floating_point_v<Number>) return expected("a number in range", name, text);
    return expected(std::is_signed_v<Number> ? "a whole number in range" : "a whole number in range, 0 or more", name,
                    text);
  }
  out = number;
  return {};
}

// Of an enum, by one of its texts.
template <typename Enum>
Status choose(Expected<Enum> chosen, Enum& out) {
  LA_ASSIGN_OR_RETURN(out, chosen);
  return {};
}
Status parse(const std::string&, const std::string& text, ComputeType& out) {
  return choose(parse_compute_type(text), out);
}
Status parse(const std::string&, const std::string& text, WeightsType& out) {
  return choose(parse_weights_type(text), out);
}
Status parse(const std::string&, const std::string& text, KvType& out) { return choose(parse_kv_type(text), out); }
Status parse(const std::string&, const std::string& text, Tune& out) { return choose(parse_tune(text), out); }
Status parse(const std::string&, const std::string& text, Schedule& out) { return choose(parse_schedule(text), out); }
Status parse(const std::string&, const std::string& text, SampleSolver& out) {
  return choose(parse_sample_solver(text), out);
}
Status parse(const std::string&, const std::string& text, Fit& out) { return choose(parse_fit(text), out); }
Status parse(const std::string&, const std::string& text, VideoEncoder& out) {
  return choose(parse_video_encoder(text), out);
}

Status parse(const std::string&, const std::string& text, CheckFinite& out) {
  return choose(parse_check_finite(text), out);
}
Status parse(const std::string&, const std::string& text, OnNan& out) { return choose(parse_on_nan(text), out); }

// Those that are set below, by themselves.
std::string own_names(const EngineOptions&) { return "lora, lora_strength"; }
std::string own_names(const GenerateRequest&) { return "mask"; }
std::string own_names(const LiveRequest&) { return ""; }

template <typename T>
Status set_by_name(std::span<const Field<T>> fields, T& object, const std::string& name, const std::string& value) {
  std::string known = own_names(object);
  for (const Field<T>& field : fields) {
    known += std::string(known.empty() ? "" : ", ") + field.name;
    if (name != field.name) continue;
    return std::visit([&](auto member) { return parse(name, value, object.*member); }, field.member);
  }
  return invalid_argument("\"" + name + "\" is no name that can be set here; there are " + known);
}

}  // namespace

Status set_field(EngineOptions& options, const std::string& name, const std::string& value) {
  if (name == "lora") {
    options.loras.push_back({value});
    return {};
  }
  if (name == "lora_strength") {
    if (options.loras.empty()) return invalid_argument("lora_strength: set the lora first that it belongs to");
    return parse(name, value, options.loras.back().strength);
  }
  return set_by_name<EngineOptions>(kEngineFields, options, name, value);
}

Status set_field(GenerateRequest& request, const std::string& name, const std::string& value) {
  if (name == "mask") {
    request.masks.push_back(value);
    return {};
  }
  return set_by_name<GenerateRequest>(kRequestFields, request, name, value);
}

Status set_field(LiveRequest& request, const std::string& name, const std::string& value) {
  return set_by_name<LiveRequest>(kLiveFields, request, name, value);
}

}  // namespace liveavatar
