// The video model on random weights: the same run as `liveavatar bench --synthetic`, of fewer layers.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>

#include "gpu_check.h"
#include "media/image.h"
#include "ops/make_backend.h"
#include "pipeline/bench.h"
#include "session/model_shapes.h"

namespace liveavatar::gpu_check {
namespace {

using Settings = std::map<std::string, std::string>;

Settings parse(const std::vector<std::string>& texts) {
  Settings settings;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    settings[text.substr(0, equals)] = equals == std::string::npos ? "" : text.substr(equals + 1);
  }
  return settings;
}

// 0, and `bad` has the name, where it is no number above 0.
int64_t number(const Settings& settings, const std::string& name, int64_t otherwise, std::string& bad) {
  const auto at = settings.find(name);
  if (at == settings.end()) return otherwise;
  int64_t value = 0;
  const char* end = at->second.data() + at->second.size();
  const auto [last, error] = std::from_chars(at->second.data(), end, value);
  if (error == std::errc() && last == end && value > 0) return value;
  bad = name;
  return 0;
}

// The first layers of a model.
void keep_layers(DitConfig& dit, int64_t layers) {
  dit.layers = std::min(dit.layers, layers);
  std::erase_if(dit.audio_inject_layers, [&](int64_t layer) { return layer >= dit.layers; });
}

Expected<BenchOptions> bench_options(const std::string& device, const Settings& settings) {
  BenchOptions options;
  std::string bad;
  JobShape& shape = options.shape;
  const auto named = settings.find("shape");
  LA_ASSIGN_OR_RETURN(shape.shapes, named_model_shapes(named == settings.end() ? "14b" : named->second));
  keep_layers(shape.shapes.dit, number(settings, "layers", shape.shapes.dit.layers, bad));
  const auto size = settings.find("size");
  LA_ASSIGN_OR_RETURN(Sides sides, parse_sides(size == settings.end() ? "704*384" : size->second));
  shape.width = shape.image_width = sides.width;
  shape.height = shape.image_height = sides.height;
  shape.blocks = number(settings, "blocks", 2, bad);
  shape.steps = number(settings, "steps", 4, bad);
  shape.device = device == "cuda-emulated" ? "cuda" : device;
  shape.weights_dtype = settings.contains("int8")  ? WeightsType::kInt8
                        : settings.contains("fp8") ? WeightsType::kFp8
                                                   : WeightsType::kSameAsDtype;
  shape.kv_dtype = settings.contains("kv_int8") ? KvType::kInt8 : KvType::kSameAsDtype;
  if (settings.contains("own")) shape.tune = Tune::kOff;
  options.limits.device_bytes = static_cast<size_t>(number(settings, "budget_mib", 0, bad)) << 20;
  options.limits.host_bytes = static_cast<size_t>(number(settings, "host_mib", 0, bad)) << 20;
  if (!bad.empty()) return invalid_argument("bench: " + bad + ": give a whole number above 0");
  const auto paging = settings.find("paging");
  if (paging != settings.end()) options.paging_dir = paging->second;
  options.say = [](const std::string& line) { std::printf("%s\n", line.c_str()); };
  return options;
}

void print(const BenchResult& r) {
  const double blocks = double(r.shape.blocks);
  print_figure("seconds_per_block", r.run_seconds / blocks, "s");
  print_figure("frames_per_second", blocks * double(kBlockFrames) / r.run_seconds, "frames/s");
  print_figure("prefill_seconds", r.prefill_seconds, "s");
  print_figure("resident_layers", double(r.shape.resident()), "layers");
  print_figure("predicted_peak", double(r.predicted_peak_bytes), "bytes");
  print_figure("charged_peak", double(r.charged_peak_bytes), "bytes");
  print_figure("weights_read", double(r.weights.bytes_read), "bytes");
  print_figure("waited_for_weights", r.weights.seconds_waited, "s");
}

}  // namespace

int run_bench_step(const std::string& device, const std::vector<std::string>& settings) {
  Expected<std::unique_ptr<DeviceSource>> source = open_device(device);
  Expected<BenchOptions> options = bench_options(device, parse(settings));
  Status status = !source.ok() ? source.status() : options.status();
  if (status.ok()) {
    options->device = source->get();
    const Expected<BenchResult> result = run_bench(*options);
    status = result.status();
    if (result.ok()) print(*result);
    if (result.ok() && is_card(device)) {
      for (const std::string& line : describe_card_choices(device)) std::printf("%s\n", line.c_str());
    }
  }
  if (!status.ok()) std::printf("%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace liveavatar::gpu_check
