// The texts of the public enums. A table is in the order of its enum.
#include <array>

#include "liveavatar/types.h"

namespace liveavatar {
namespace {

template <size_t n>
using Names = std::array<const char*, n>;
constexpr Names<2> kComputeTypes{"bf16", "f32"};
constexpr Names<5> kWeightsTypes{"", "bf16", "int8", "fp8", "q4"};
constexpr Names<4> kKvTypes{"", "bf16", "int8", "fp8"};
constexpr Names<2> kTunes{"auto", "off"};
constexpr Names<3> kSchedules{"auto", "sequential", "wavefront"};
constexpr Names<3> kSolvers{"euler", "unipc", "dpm++"};
constexpr Names<2> kFits{"cover", "original"};
constexpr Names<3> kVideoEncoders{"auto", "cpu", "nvenc"};
constexpr Names<3> kCheckFinites{"block", "step", "layer"};
constexpr Names<2> kOnNans{"stop", "retry"};
constexpr Names<6> kStages{"text", "image", "prefill", "sample", "decode", "write"};

// A value that is not of its enum has no text.
template <size_t n, typename Enum>
const char* name_of(const Names<n>& names, Enum value) {
  const auto i = static_cast<size_t>(value);
  return i < n ? names[i] : "";
}

// "a, b or c", without the empty text.
template <size_t n>
std::string choices(const Names<n>& names) {
  std::string list;
  for (size_t i = 0; i < n; ++i) {
    if (!list.empty()) list += i + 1 == n ? " or " : ", ";
    list += names[i];
  }
  return list;
}

// field: in backquotes.
template <typename Enum, size_t n>
Expected<Enum> parse(const char* field, const Names<n>& names, const std::string& text) {
  for (size_t i = 0; i < n; ++i) {
    if (text == names[i]) return static_cast<Enum>(i);
  }
  return invalid_argument(std::string(field) + " " + text + ": choose " + choices(names));
}

}  // namespace

const char* compute_type_name(ComputeType type) { return name_of(kComputeTypes, type); }
const char* weights_type_name(WeightsType type) { return name_of(kWeightsTypes, type); }
const char* kv_type_name(KvType type) { return name_of(kKvTypes, type); }
const char* tune_name(Tune tune) { return name_of(kTunes, tune); }
const char* schedule_name(Schedule schedule) { return name_of(kSchedules, schedule); }
const char* sample_solver_name(SampleSolver solver) { return name_of(kSolvers, solver); }
const char* fit_name(Fit fit) { return name_of(kFits, fit); }
const char* video_encoder_name(VideoEncoder encoder) { return name_of(kVideoEncoders, encoder); }
const char* check_finite_name(CheckFinite check) { return name_of(kCheckFinites, check); }
const char* on_nan_name(OnNan on_nan) { return name_of(kOnNans, on_nan); }
const char* stage_name(Stage stage) { return name_of(kStages, stage); }

Expected<ComputeType> parse_compute_type(const std::string& text) {
  return parse<ComputeType>("`dtype`", kComputeTypes, text);
}
Expected<WeightsType> parse_weights_type(const std::string& text) {
  return parse<WeightsType>("`weights_dtype`", kWeightsTypes, text);
}
Expected<KvType> parse_kv_type(const std::string& text) { return parse<KvType>("`kv_dtype`", kKvTypes, text); }
Expected<Tune> parse_tune(const std::string& text) { return parse<Tune>("`tune`", kTunes, text); }
Expected<Schedule> parse_schedule(const std::string& text) { return parse<Schedule>("`schedule`", kSchedules, text); }
Expected<SampleSolver> parse_sample_solver(const std::string& text) {
  return parse<SampleSolver>("`sample_solver`", kSolvers, text);
}
Expected<Fit> parse_fit(const std::string& text) { return parse<Fit>("`fit`", kFits, text); }
Expected<VideoEncoder> parse_video_encoder(const std::string& text) {
  return parse<VideoEncoder>("`video_encoder`", kVideoEncoders, text);
}
Expected<CheckFinite> parse_check_finite(const std::string& text) {
  return parse<CheckFinite>("`check_finite`", kCheckFinites, text);
}
Expected<OnNan> parse_on_nan(const std::string& text) { return parse<OnNan>("`on_nan`", kOnNans, text); }

}  // namespace liveavatar
