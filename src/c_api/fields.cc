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
  std::variant<std::string T::*, bool T::*, int T::*, int64_t T::*, uint64_t T::*, double T::*> member;
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
    {"dtype", &EngineOptions::dtype},
    {"weights_dtype", &EngineOptions::weights_dtype},
    {"kv_dtype", &EngineOptions::kv_dtype},
    {"int8_products", &EngineOptions::int8_products},
    {"threads", &EngineOptions::threads},
    {"memory_budget_bytes", &EngineOptions::memory_budget_bytes},
    {"packed_dit", &EngineOptions::packed_dit},
    {"paging_dir", &EngineOptions::paging_dir},
    {"page_weights", &EngineOptions::page_weights},
    {"offload_kv_cache", &EngineOptions::offload_kv_cache},
};

constexpr Field<Job> kJobFields[] = {
    {"image", &Job::image},
    {"audio", &Job::audio},
    {"original_speakers", &Job::original_speakers},
    {"pose_video", &Job::pose_video},
    {"original_pose", &Job::original_pose},
    {"prompt", &Job::prompt},
    {"size", &Job::size},
    {"num_clip", &Job::num_clip},
    {"infer_frames", &Job::infer_frames},
    {"sample_steps", &Job::sample_steps},
    {"sample_shift", &Job::sample_shift},
    {"sample_solver", &Job::sample_solver},
    {"seed", &Job::seed},
    {"online_decode", &Job::online_decode},
    {"schedule", &Job::schedule},
};

// Each says what it expected, or nothing.
const char* parse(const std::string& text, std::string& out) {
  out = text;
  return nullptr;
}

const char* parse(const std::string& text, bool& out) {
  if (text != "true" && text != "false") return "true or false";
  out = text == "true";
  return nullptr;
}

template <typename Number>
const char* parse(const std::string& text, Number& out) {
  Number number{};
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) {
    if (std::is_floating_point_v<Number>) return "a number in range";
    return std::is_signed_v<Number> ? "a whole number in range" : "a whole number in range, 0 or more";
  }
  out = number;
  return nullptr;
}

Status expected(const char* what, const std::string& name, const std::string& value) {
  if (what == nullptr) return {};
  return invalid_argument(name + ": \"" + value + "\" is not " + what);
}

template <typename T>
Status set_by_name(std::span<const Field<T>> fields, T& object, const std::string& name, const std::string& value) {
  std::string known = std::is_same_v<T, Job> ? "fit, mask" : "lora, lora_strength";  // set below
  for (const Field<T>& field : fields) {
    known += std::string(", ") + field.name;
    if (name != field.name) continue;
    const char* wanted = std::visit([&](auto member) { return parse(value, object.*member); }, field.member);
    return expected(wanted, name, value);
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
    return expected(parse(value, options.loras.back().strength), name, value);
  }
  return set_by_name<EngineOptions>(kEngineFields, options, name, value);
}

Status set_field(Job& job, const std::string& name, const std::string& value) {
  if (name == "mask") {
    job.masks.push_back(value);
    return {};
  }
  if (name == "fit") {
    if (value != "cover" && value != "original") return expected("cover or original", name, value);
    job.fit = value == "cover" ? Fit::kCover : Fit::kOriginal;
    return {};
  }
  return set_by_name<Job>(kJobFields, job, name, value);
}

}  // namespace liveavatar
