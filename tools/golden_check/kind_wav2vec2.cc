// The audio encoder: normalisation, hidden states, features of whole voices, the tables between rates, reading of
// files.
#include <algorithm>
#include <stdexcept>

#include "golden.h"
#include "media/audio.h"
#include "models/wav2vec2/audio_features.h"
#include "models/wav2vec2/timeline.h"

namespace liveavatar::golden {
namespace {

template <typename T>
T must(Expected<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().message());
  return *std::move(value);
}

std::vector<float> normalised(const std::vector<float>& audio) {
  SampleSource source(audio);
  Loudness loudness = must(measure_loudness(source));
  std::vector<float> out;
  for (float x : audio) out.push_back(loudness.normalise(x));
  return out;
}

// Some layers in full, or some frames of all layers.
std::vector<float> pick(const Tensor& states, const nlohmann::json& layers, const nlohmann::json& frames) {
  std::vector<float> out;
  int64_t count = states.dim(1), width = states.dim(2);
  for (int64_t l = 0; l < states.dim(0); ++l) {
    if (!layers.is_null() && std::find(layers.begin(), layers.end(), l) == layers.end()) continue;
    for (int64_t f = 0; f < count; ++f) {
      if (!frames.is_null() && std::find(frames.begin(), frames.end(), f) == frames.end()) continue;
      const float* row = states.host<float>() + (l * count + f) * width;
      out.insert(out.end(), row, row + width);
    }
  }
  return out;
}

void hidden_states(const Golden& golden, const Wav2Vec2& model, const nlohmann::json& call) {
  OwnedTensor states = must(model.hidden_states(golden.f32(call.at("in").at("input_values")), *golden.budget));
  const Download host(*golden.backend, states.tensor);
  const auto& out = call.at("out");
  if (out.contains("hidden_states")) golden.compare(out.at("hidden_states"), states.tensor);
  if (out.contains("selected_layers"))
    golden.compare(out.at("selected_layers"), pick(host.tensor(), call.at("args").at("selected"), nullptr));
  if (out.contains("edge_frames"))
    golden.compare(out.at("edge_frames"), pick(host.tensor(), nullptr, call.at("args").at("edges")));
}

// The features at 30 columns a second are the interpolated hidden states: [25, frames, width].
void interpolated(const Golden& golden, const Wav2Vec2& model, const nlohmann::json& call) {
  SampleSource source(golden.f32(call.at("in").at("audio")));
  AudioFeaturesOptions options;
  options.fps = 30;
  auto features = must(AudioFeatures::open(model, *golden.budget, source, must(measure_loudness(source)), options));
  int64_t frames = call.at("args").at("frames_30hz"), layers = features->layers(), width = features->width();
  std::vector<float> columns(size_t(layers * width * frames)), rows;
  if (!golden.ok("interpolated", features->columns(0, frames, columns.data()))) return;
  for (int64_t l = 0; l < layers; ++l) {
    for (int64_t f = 0; f < frames; ++f) {
      for (int64_t c = 0; c < width; ++c) rows.push_back(columns[size_t((l * width + c) * frames + f)]);
    }
  }
  golden.compare(call.at("out").at("interpolated"), rows);
}

void encode_audio(const Golden& golden, const Wav2Vec2& model, const nlohmann::json& call) {
  const auto& args = call.at("args");
  SampleSource source(golden.f32(call.at("in").at("audio")));
  AudioFeaturesOptions options;
  options.fps = args.at("fps");
  auto features = must(AudioFeatures::open(model, *golden.budget, source, must(measure_loudness(source)), options));
  golden.exact(call.at("out").at("features").get<std::string>() + " clips",
               voice_clips(features->voice_samples(), args.at("infer_frames"), options.fps) == args.at("clips"));
  int64_t columns = args.at("columns");
  std::vector<float> out(size_t(features->layers() * features->width() * columns));
  if (golden.ok("columns", features->columns(0, columns, out.data())))
    golden.compare(call.at("out").at("features"), out);
}

void table(const Golden& golden, const nlohmann::json& call, const std::string& in, const std::string& out,
           int64_t (*f)(int64_t)) {
  std::vector<int32_t> values = golden.i32(call.at("in").at(in));
  for (int32_t& v : values) v = static_cast<int32_t>(f(v));
  golden.exact(call.at("op").get<std::string>() + " " + out, values == golden.i32(call.at("out").at(out)));
}

void column_table(const Golden& golden, const nlohmann::json& call) {
  std::vector<int32_t> want = golden.i32(call.at("out").at("index")), got;
  for (int64_t i = 0; i < int64_t(want.size()); ++i)
    got.push_back(static_cast<int32_t>(column_source(i, call.at("args").at("frames_30hz"), 25)));
  golden.exact("column_source", got == want);
}

void load_audio(const Golden& golden, const nlohmann::json& call) {
  const std::string file = call.at("args").at("file");
  auto voice = open_mono(golden.path(file), kModelRateHz);
  if (!golden.ok(file, voice.status())) return;
  std::vector<float> samples, chunk(1 << 14);
  while (true) {
    auto got = (*voice)->read(chunk.data(), static_cast<int64_t>(chunk.size()));
    if (!golden.ok(file, got.status())) return;
    if (*got == 0) break;
    samples.insert(samples.end(), chunk.begin(), chunk.begin() + *got);
  }
  golden.compare(call.at("out").at("audio"), samples);
}

void run(const Golden& golden, const Wav2Vec2& model, const nlohmann::json& call) {
  std::string op = call.at("op");
  if (op == "normalise") {
    golden.compare(call.at("out").at("input_values"), normalised(golden.f32(call.at("in").at("audio"))));
  } else if (op == "hidden_states") {
    hidden_states(golden, model, call);
  } else if (op == "encode_audio") {
    encode_audio(golden, model, call);
    if (call.at("out").contains("interpolated")) interpolated(golden, model, call);
  } else if (op == "interpolated_length") {
    table(golden, call, "frames_50hz", "frames_30hz", interpolated_length);
  } else if (op == "clip_count") {
    table(golden, call, "frames_30hz", "clips_48", [](int64_t n) { return clip_count(n, 48, 25); });
    table(golden, call, "frames_30hz", "clips_12", [](int64_t n) { return clip_count(n, 12, 25); });
  } else if (op == "frame_count") {
    table(golden, call, "samples", "frames_50hz", frame_count);
  } else if (op == "column_source") {
    column_table(golden, call);
  } else if (op == "load_audio") {
    load_audio(golden, call);
  } else {
    throw std::runtime_error("unknown op '" + op + "'");
  }
}

}  // namespace

void check_wav2vec2(const Golden& golden) {
  auto model = must(Wav2Vec2::load(golden.dir, *golden.backend, *golden.budget, golden.dtype));
  for (const auto& call : golden.calls()) run(golden, *model, call);
  // The other files hold the same values under older names; each must give the same states.
  for (const auto& variant : golden.config().at("variants")) {
    auto other = Wav2Vec2::load_file(golden.dir, golden.path(variant), *golden.backend, *golden.budget, golden.dtype);
    if (!golden.ok(variant, other.status())) continue;
    for (const auto& call : golden.calls()) {
      if (call.at("op") == "hidden_states" && call.at("out").contains("hidden_states"))
        hidden_states(golden, **other, call);
    }
  }
}

}  // namespace liveavatar::golden
