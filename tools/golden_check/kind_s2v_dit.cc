// The DiT: prefill, noisy forwards over more than a clip, pose, two actors; sinks and KV caches.
#include <map>
#include <stdexcept>

#include "golden.h"
#include "models/s2v_dit/s2v_dit.h"
#include "ops/elementwise.h"
#include "plan/memory_plan.h"

namespace liveavatar::golden {
namespace {

struct Session {
  const Golden& golden;
  DitConfig config;
  DitTypes types{DType::kF32};
  DitGeometry geometry;
  std::unique_ptr<S2vDit> dit;
  Arena arena;
  std::unique_ptr<DitWeightGroups> pages;
  std::unique_ptr<DitSession> state;
  OwnedTensor velocity;
  std::map<std::string, std::vector<float>> seen;  // by the model's observer, during one forward
};

template <typename T>
T must(Expected<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().message());
  return *std::move(value);
}

constexpr int64_t kSteps = 4, kActors = 2;

void open(Session& s) {
  const Golden& g = s.golden;
  s.config = must(parse_dit_config(g.config().dump(), g.path("golden.json")));
  auto weights = must(open_safetensors(g.path(g.json.at("weights"))));
  s.types = dit_types(g.dtype == DType::kBF16 ? ComputeType::kBf16 : ComputeType::kF32,
                      must(parse_weights_type(g.weights_dtype)), must(parse_kv_type(g.kv_dtype)));
  s.dit = must(S2vDit::load(s.config, *weights, *g.backend, *g.budget, s.types));
  s.geometry.latent_height = g.json.at("latent_size")[0];
  s.geometry.latent_width = g.json.at("latent_size")[1];
  Arena measure;
  DitCaches(s.config, s.geometry, kSteps, kActors, s.types, measure);
  DitActivations(s.config, s.geometry, g.dtype, measure, {.actors = kActors});
  s.arena = must(Arena::allocate(*g.budget, MemoryCategory::kKvCache, measure.used_bytes()));
  DitCaches caches(s.config, s.geometry, kSteps, kActors, s.types, s.arena);
  DitActivations activations(s.config, s.geometry, g.dtype, s.arena, {.actors = kActors});
  s.state = std::make_unique<DitSession>(s.geometry, std::move(caches), std::move(activations));
  s.pages = must(s.dit->open_weight_groups({s.config.layers}, *g.budget));
  Shape shape{s.config.channels, s.geometry.block_latents, s.geometry.latent_height, s.geometry.latent_width};
  s.velocity = must(OwnedTensor::allocate(*g.budget, MemoryCategory::kActivations, shape, DType::kF32));
}

// Keys or values of any type.
void compare_cache(Session& s, const std::string& name, const Tensor& cache, const Tensor& scale) {
  if (scale.empty()) return s.golden.compare(name, cache);
  OwnedTensor plain = must(OwnedTensor::allocate(*s.golden.budget, MemoryCategory::kRuntime, cache.shape, DType::kF32));
  ops::dequantise(*s.golden.backend, cache, scale, plain.tensor);
  s.golden.compare(name, plain.tensor);
}

void prefill(Session& s, const nlohmann::json& call) {
  const auto& in = call.at("in");
  OwnedTensor text = s.golden.tensor(in.at("text")), ref = s.golden.tensor(in.at("ref")),
              motion = s.golden.tensor(in.at("motion"));
  s.dit->encode_text(text.tensor, *s.state);
  s.dit->prefill(ref.tensor, motion.tensor, *s.pages, *s.state);
  for (const auto& [what, name] : call.at("out").items()) {  // "cond_k layer 2 ..."
    const KeyValues& cache = s.state->caches.sink.layers[std::stoul(what.substr(what.find("layer ") + 6))];
    bool keys = what.starts_with("cond_k");
    compare_cache(s, name, keys ? cache.k : cache.v, keys ? cache.k_scale : cache.v_scale);
  }
}

void watch(Session& s) {
  s.seen.clear();
  s.state->observer = [&s](std::string_view name, const Tensor& value) {
    std::vector<float>& values = s.seen[std::string(name)];
    values.resize(static_cast<size_t>(value.elements()));
    convert_to_f32(value.address(), value.dtype, values.data(), value.elements());
  };
}

// Outputs "debug.<what the observer calls it> ...". No bf16 error is recorded for them: they are compared in f32.
void compare_debug(Session& s, const nlohmann::json& call) {
  s.state->observer = {};
  if (s.golden.dtype != DType::kF32) return;
  for (const auto& [what, name] : call.at("out").items()) {
    if (!what.starts_with("debug.")) continue;
    std::string observed = what.substr(6, what.find(' ') - 6);
    std::vector<float> want = s.golden.f32(name);
    // The original embeds t for each latent frame, then 0 for the sink's: the engine t once.
    if (observed.starts_with("time_")) want.resize(want.size() / 6);
    s.golden.compare_values(name, s.seen[observed], want);
  }
}

void forward(Session& s, const nlohmann::json& call) {
  const auto& in = call.at("in");
  const auto& args = call.at("args");
  OwnedTensor latents = s.golden.tensor(in.at("latents")), text = s.golden.tensor(in.at("text"));
  OwnedTensor audio = s.golden.tensor(in.at("audio")), pose, mask;
  watch(s);
  s.dit->encode_text(text.tensor, *s.state);
  // One actor unless the audio has a leading actor dimension.
  int64_t actors = audio.tensor.rank() == 4 ? audio.tensor.dim(0) : 1;
  std::vector<AudioTokens> all = s.state->caches.actors;
  s.state->caches.actors.erase(s.state->caches.actors.begin() + actors, s.state->caches.actors.end());
  Tensor sound = audio.tensor.reshape({actors, s.config.audio_layers * s.config.audio_dim * 12});
  for (int64_t a = 0; a < actors; ++a) {
    s.dit->encode_audio(sound.slice(a, 1).reshape({s.config.audio_layers, s.config.audio_dim, 12}), *s.state,
                        s.state->caches.actors[size_t(a)]);
  }
  if (in.contains("mask")) mask = s.golden.tensor(in.at("mask"));
  if (in.contains("pose")) pose = s.golden.tensor(in.at("pose"));
  BlockInputs inputs;
  inputs.latents = latents.tensor;
  inputs.timestep = args.at("timestep");
  inputs.step = args.at("kv_step");
  inputs.start_latent = args.at("start_latent");
  inputs.relative_dist = args.at("relative_dist");
  inputs.pose = pose.tensor;
  inputs.actor_masks = mask.tensor;
  s.dit->forward(inputs, *s.pages, *s.state, s.velocity.tensor);
  s.golden.compare(call.at("out").at("velocity"), s.velocity.tensor);
  compare_debug(s, call);
  s.state->caches.actors = all;
}

void kv_cache(Session& s, const nlohmann::json& call) {
  for (const auto& [step, name] : call.at("out").items()) {
    const KeyValues cache = s.state->caches.kv->acquire({std::stol(step), 0});
    compare_cache(s, name, cache.k, cache.k_scale);
  }
}

}  // namespace

void check_s2v_dit(const Golden& golden) {
  Session session{.golden = golden};
  open(session);
  for (const auto& call : golden.calls()) {
    std::string op = call.at("op");
    if (op == "prefill") {
      prefill(session, call);
    } else if (op == "forward") {
      forward(session, call);
    } else if (op == "ring") {
      kv_cache(session, call);
    } else {
      throw std::runtime_error("unknown op '" + op + "'");
    }
  }
}

}  // namespace liveavatar::golden
