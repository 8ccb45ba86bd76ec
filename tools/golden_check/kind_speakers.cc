// Several voices and their features, the audio track that they make, and mask images as token masks at each stage.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "golden.h"
#include "media/voice_mix.h"
#include "models/wav2vec2/wav2vec2.h"
#include "session/actor_masks.h"
#include "session/job_shape.h"
#include "session/voices.h"
#include "weights/find_parts.h"

namespace liveavatar::golden {
namespace {

void must(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

template <typename T>
T must(Expected<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().message());
  return *std::move(value);
}

void audio_features(const Golden& golden, const Wav2Vec2& model, const nlohmann::json& call) {
  const auto& args = call.at("args");
  GenerateRequest job;
  job.audio = golden.voices(args.at("audio"));
  const int64_t infer_frames = args.at("infer_frames");
  std::vector<Voice> voices;
  std::vector<int64_t> clips;
  for (const std::string& path : must(job_voices(job))) {
    voices.push_back(must(Voice::open(path)));
    must(voices.back().hear());
    clips.push_back(voice_clips(voices.back().samples(), infer_frames, kFps));
  }
  auto columns = must(FileColumns::open(model, *golden.budget, voices));
  std::string name = call.at("out").at("features");
  golden.exact(name + " clips_of_each", nlohmann::json(clips) == args.at("clips_of_each"));
  const int64_t shortest = *std::min_element(clips.begin(), clips.end());
  golden.exact(name + " clips", shortest == args.at("clips"));
  golden.exact(name + " columns", shortest * infer_frames == args.at("columns"));
  std::vector<float> features(static_cast<size_t>(golden.shape(name).elements()));
  if (golden.ok(name, columns->columns(0, args.at("columns"), features.data()).status()))
    golden.compare_model(name, features, kAudioFeaturesRms);
}

std::vector<float> all_frames(AudioStream& audio) {
  std::vector<float> all, chunk(static_cast<size_t>(audio.channels()) << 12);
  while (int64_t got = must(audio.read(chunk.data(), 1 << 12)))
    all.insert(all.end(), chunk.begin(), chunk.begin() + got * audio.channels());
  return all;
}

void merged_audio(const Golden& golden, const nlohmann::json& call) {
  const auto& args = call.at("args");
  std::string name = args.at("file");
  auto mix = must(open_mix(split_voices(golden.voices(args.at("audio"))), MixRule::kOriginal));
  std::vector<float> samples = all_frames(*mix);
  golden.exact(name + " rate", mix->sample_rate_hz() == args.at("sample_rate"));
  golden.exact(name + " channels", mix->channels() == args.at("channels"));
  int64_t frames = static_cast<int64_t>(samples.size()) / mix->channels();
  golden.exact(name + " frames", frames == args.at("frames"), "got " + std::to_string(frames));
  if (!call.at("out").contains("samples")) return;
  std::vector<int32_t> integers;
  for (float sample : samples) integers.push_back(static_cast<int32_t>(sample * 32768.0f));
  golden.exact(call.at("out").at("samples"), integers == golden.i32(call.at("out").at("samples")));
}

void compare_masks(const Golden& golden, const std::string& name, const std::vector<TokenMask>& actors) {
  std::vector<int32_t> got;
  for (const TokenMask& mask : actors) got.insert(got.end(), mask.begin(), mask.end());
  golden.exact(name, got == golden.i32(name));
}

void token_masks(const Golden& golden, const nlohmann::json& call) {
  const auto& args = call.at("args");
  std::vector<std::string> folders;
  for (const std::string folder : args.at("masks")) folders.push_back(golden.path(folder));
  std::vector<MaskImages> pictures = must(find_masks(folders, folders.size()));
  TokenGrid grid{args.at("latent_frames"), args.at("rows"), args.at("columns")};
  std::vector<TokenMask> actors;
  for (size_t a = 0; a < pictures.size(); ++a) {
    golden.exact(folders[a] + " pictures", pictures[a].size() == args.at("pictures_of_each")[a].get<size_t>());
    actors.push_back(must(stretched_tokens(pictures[a], grid)));
  }
  const auto& out = call.at("out");
  assign_tokens(actors);
  compare_masks(golden, out.at("assigned"), actors);
  for (TokenMask& mask : actors) widen(mask, grid);
  compare_masks(golden, out.at("dilated"), actors);
  compare_masks(golden, out.at("mask"), exclude_others(actors));
}

}  // namespace

void check_speakers(const Golden& golden) {
  PartPaths paths = must(find_parts({.folder = golden.path(golden.config().at("ckpt_dir"))}));
  auto model = must(Wav2Vec2::load(paths.audio_config_dir, *golden.backend, *golden.budget, golden.dtype));
  for (const auto& call : golden.calls()) {
    std::string op = call.at("op");
    if (op == "audio_features") {
      audio_features(golden, *model, call);
    } else if (op == "merged_sound") {
      merged_audio(golden, call);
    } else if (op == "token_masks") {
      token_masks(golden, call);
    } else {
      throw std::runtime_error("unknown op '" + op + "'");
    }
  }
}

}  // namespace liveavatar::golden
