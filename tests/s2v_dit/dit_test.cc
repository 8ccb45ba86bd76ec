// The DiT beyond its goldens: positions without an end, sizes, orders of layers, threads, errors.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "models/s2v_dit/rope_tables.h"
#include "models/s2v_dit/s2v_dit.h"
#include "ops/make_backend.h"

namespace liveavatar {
namespace {

const std::string kGolden = std::string(LA_SOURCE_DIR) + "/tests/goldens/dit";

DitConfig golden_config() {
  std::ifstream file(kGolden + "/golden.json");
  return *parse_dit_config(nlohmann::json::parse(file).at("config").dump(), "golden.json");
}

// Weights of the golden with one tensor left out or given another shape.
class Altered : public TensorSource {
 public:
  Altered(TensorSourcePtr base, const std::string& remove, const std::string& reshape)
      : base_(std::move(base)), tensors_(base_->tensors()) {
    tensors_.erase(remove);
    if (!reshape.empty()) tensors_.at(reshape).shape = {7};
  }
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return "altered"; }
  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    return base_->read_part(name, part, target);
  }

 private:
  TensorSourcePtr base_;
  std::map<std::string, TensorInfo> tensors_;
};

// One video's state with random inputs.
class Session {
 public:
  Session(int threads, int64_t steps, DitTypes types = DType::kF32) : config_(golden_config()), steps_(steps) {
    backend_ = *make_backend("cpu", {.threads = threads});
    auto weights = *open_safetensors(kGolden + "/weights.safetensors");
    dit_ = *S2vDit::load(config_, *weights, *backend_, budget_, types);
    geometry_.latent_height = 8;
    geometry_.latent_width = 12;
    Arena measure;
    DitCaches(config_, geometry_, steps, 1, types, measure);
    arena_ = *Arena::allocate(budget_, MemoryCategory::kKvCache, measure.used_bytes());
    DitCaches caches(config_, geometry_, steps, 1, types, arena_);
    EXPECT_EQ(arena_.used_bytes(), measure.used_bytes());
    Arena measure_activations;
    DitActivations(config_, geometry_, DType::kF32, measure_activations, {.in_flight = 2});
    activation_arena_ = *Arena::allocate(budget_, MemoryCategory::kActivations, measure_activations.used_bytes());
    DitActivations activations(config_, geometry_, DType::kF32, activation_arena_, {.in_flight = 2});
    state_ = std::make_unique<DitSession>(geometry_, std::move(caches), std::move(activations));
    weight_groups_ = *dit_->open_weight_groups({config_.layers}, budget_);
    EXPECT_EQ(activation_arena_.used_bytes(), measure_activations.used_bytes());
    Tensor text = normal({9, config_.text_dim}), reference = normal({16, 1, 8, 12}), motion = normal({16, 19, 8, 12});
    dit_->encode_text(text, *state_);
    dit_->prefill(reference, motion, *weight_groups_, *state_);
    hear(normal({config_.audio_layers, config_.audio_dim, 12}));
  }

  Tensor normal(Shape shape) {
    memory_.push_back(*OwnedTensor::allocate(budget_, MemoryCategory::kRuntime, shape, DType::kF32));
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < shape.elements(); ++i) memory_.back().tensor.host<float>()[i] = normal(random_);
    return memory_.back().tensor;
  }
  BlockInputs inputs(const Tensor& latents, int64_t step, int64_t start) {
    BlockInputs in;
    in.latents = latents;
    in.timestep = 1000 - 300 * double(step);
    in.step = step;
    in.start_latent = start;
    return in;
  }
  void hear(const Tensor& features) { dit_->encode_audio(features, *state_, state_->caches.actors.front()); }
  void forward(const BlockInputs& in, const Tensor& out) { dit_->forward(in, *weight_groups_, *state_, out); }
  ForwardState& forward_state(size_t i) { return state_->activations.forwards[i]; }
  const S2vDit& dit() { return *dit_; }
  DitWeightGroups& weight_groups() { return *weight_groups_; }
  DitSession& state() { return *state_; }
  const DitGeometry& geometry() const { return geometry_; }
  const DitConfig& config() const { return config_; }

 private:
  DitConfig config_;
  int64_t steps_;
  Budget budget_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<S2vDit> dit_;
  DitGeometry geometry_;
  Arena arena_;
  Arena activation_arena_;
  std::unique_ptr<DitWeightGroups> weight_groups_;
  std::unique_ptr<DitSession> state_;
  std::mt19937 random_{5};
  std::vector<OwnedTensor> memory_;
};

std::vector<float> copy(const Tensor& t) { return {t.host<float>(), t.host<float>() + t.elements()}; }

// The rope of one token of the golden's head (32 wide: 6, 5 and 5 pairs), computed one by one.
void expect_rope(const std::array<double, 3>& position, const float*& here) {
  const std::array<int, 3> pairs{6, 5, 5};
  for (size_t axis = 0; axis < 3; ++axis) {
    for (int k = 0; k < pairs[axis]; ++k, here += 2) {
      double angle = position[axis] / std::pow(10000.0, double(k) / pairs[axis]);
      // The two ways to divide may differ in a double's last bit, which is 2e-9 at ten million.
      ASSERT_NEAR(here[0], std::cos(angle), 2e-7) << "axis " << axis << " pair " << k;
      ASSERT_NEAR(here[1], std::sin(angle), 2e-7) << "axis " << axis << " pair " << k;
    }
  }
}

TEST(Positions, StayExactAtTenMillionFrames) {
  DitConfig config = golden_config();
  DitGeometry g{.latent_height = 4, .latent_width = 4};
  std::vector<float> rope(static_cast<size_t>(g.block_tokens() * config.head_dim()));
  const int64_t far = 10'000'000;
  fill_block_rope(config, g, far, rope);
  for (float v : rope) ASSERT_LE(std::fabs(v), 1.0f);
  const float* here = rope.data();
  for (int64_t f = 0; f < 3; ++f) {
    for (int64_t token = 0; token < 4; ++token)
      expect_rope({double(far + f), double(token / 2), double(token % 2)}, here);
  }
}

// Every sink token of a grid whose coarser buckets leave remainders: reference, newest motion, two, sixteen.
TEST(Positions, TheSinkHasThreeGridsOfPositions) {
  DitConfig config = golden_config();
  DitGeometry g{.latent_height = 22, .latent_width = 16};  // 11 x 8 patches; 5 x 4; 2 x 2
  std::vector<float> rope(static_cast<size_t>(g.sink_tokens() * config.head_dim()));
  fill_sink_rope(config, g, 7, rope);
  const std::vector<double> rows{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, columns{0, 1, 2, 3, 4, 5, 6, 7};
  const float* here = rope.data();
  auto expect_grid = [&](double frame, const std::vector<double>& ys, const std::vector<double>& xs) {
    for (double y : ys) {
      for (double x : xs) expect_rope({frame, y, x}, here);
    }
  };
  expect_grid(37, rows, columns);
  expect_grid(-1, rows, columns);
  expect_grid(-3, {0, 2, 5, 7, 10}, {0, 2, 4, 7});
  for (double frame : {-19, -14, -9, -4}) expect_grid(frame, {0, 10}, {0, 7});
  EXPECT_EQ(here, rope.data() + rope.size());
}

TEST(Positions, TheSinkShiftFollowsTheLastBlock) {
  EXPECT_EQ(sink_shift(0, 17), 0);
  EXPECT_EQ(sink_shift(13, 17), 0);
  EXPECT_EQ(sink_shift(15, 17), 2);
  EXPECT_EQ(sink_shift(1'000'000, 30), 1'000'000);
}

TEST(Geometry, IsDerivedFromTheRequestedSize) {
  DitGeometry g{.latent_height = 10, .latent_width = 14};
  EXPECT_EQ(g.latent_tokens(), 35);
  EXPECT_EQ(g.sink_tokens(), 80);  // 35 + 35 + 2 * 3 + 4 * 1 * 1: remainders are dropped
  DitGeometry wide{.latent_height = 50, .latent_width = 90};
  EXPECT_EQ(wide.block_tokens(), 3375);
}

TEST(S2vDit, OrderOfLayersDoesNotChangeABit) {
  Session plain(2, 2), mixed(2, 2);
  std::vector<std::vector<float>> want, got;
  for (Session* s : {&plain, &mixed}) {
    Tensor first = s->normal({16, 3, 8, 12}), second = s->normal({16, 3, 8, 12}), out = s->normal({16, 3, 8, 12});
    BlockInputs a = s->inputs(first, 1, 0), b = s->inputs(second, 0, 3);
    const S2vDit& dit = s->dit();
    s->forward(s->inputs(second, 0, 0), out);  // step 0 of block 0
    if (s == &plain) {
      s->forward(a, out);
      want.push_back(copy(out));
      s->forward(b, out);
      want.push_back(copy(out));
    } else {  // (block 0, step 1) and (block 1, step 0) side by side, layer by layer
      dit.begin(a, s->forward_state(0));
      dit.begin(b, s->forward_state(1));
      ForwardState* const forwards[] = {&s->forward_state(1), &s->forward_state(0)};
      for (int64_t i = 0; i < s->config().layers; ++i) dit.layer(i, s->weight_groups(), forwards);
      dit.end(s->forward_state(0), out);
      got.push_back(copy(out));
      dit.end(s->forward_state(1), out);
      got.push_back(copy(out));
    }
  }
  EXPECT_EQ(want, got);
}

// Two blocks in flight, each with its own audio and pose, equal the same two one after the other.
TEST(S2vDit, BlocksInFlightUseTheirOwnAudio) {
  Session s(2, 2);
  const S2vDit& dit = s.dit();
  const Shape shape{s.config().audio_layers, s.config().audio_dim, 12}, block{16, 3, 8, 12};
  Tensor features[] = {s.normal(shape), s.normal(shape)}, out = s.normal(block);
  BlockInputs in[] = {s.inputs(s.normal(block), 1, 0), s.inputs(s.normal(block), 0, 3)};
  in[1].pose = s.normal(block);
  s.forward(s.inputs(in[1].latents, 0, 0), out);  // fills the first slot of KV cache 0
  std::vector<float> want[2];
  for (size_t b : {0u, 1u}) {
    s.hear(features[b]);
    s.forward(in[b], out);
    want[b] = copy(out);
  }
  EXPECT_NE(want[0], want[1]);

  Arena measure;
  AudioTokens(s.config(), s.geometry(), DType::kF32, measure);
  Budget budget;
  std::vector<Arena> arenas;
  std::vector<AudioTokens> audio;
  for (size_t b : {0u, 1u}) {
    arenas.push_back(*Arena::allocate(budget, MemoryCategory::kConditioning, measure.used_bytes()));
    audio.emplace_back(s.config(), s.geometry(), DType::kF32, arenas[b]);
    dit.encode_audio(features[b], s.state(), audio[b]);
  }
  for (size_t b : {0u, 1u}) {
    in[b].audio = {&audio[b], 1};
    dit.begin(in[b], s.forward_state(b));
  }
  ForwardState* const forwards[] = {&s.forward_state(1), &s.forward_state(0)};
  for (int64_t i = 0; i < s.config().layers; ++i) dit.layer(i, s.weight_groups(), forwards);
  for (size_t b : {0u, 1u}) {
    dit.end(s.forward_state(b), out);
    EXPECT_EQ(copy(out), want[b]);
  }
}

// Looking on changes nothing.
TEST(S2vDit, AnObserverDoesNotChangeABit) {
  Session s(1, 1);
  Tensor latents = s.normal({16, 3, 8, 12}), out = s.normal({16, 3, 8, 12});
  auto run = [&] {
    s.forward(s.inputs(latents, 0, 0), out);
    return copy(out);
  };
  std::vector<float> want = run();
  std::vector<std::string> names;
  s.state().observer = [&](std::string_view name, const Tensor&) { names.emplace_back(name); };
  EXPECT_EQ(run(), want);
  EXPECT_EQ(names.size(), 2u + 4 * 3 + 2 * 2 + 1);
  EXPECT_EQ(names.back(), "head");
  s.state().observer = {};
  EXPECT_EQ(run(), want);
}

TEST(S2vDit, ThreadsDoNotChangeABit) {
  std::vector<std::vector<float>> results;
  for (int threads : {1, 3}) {
    Session s(threads, 1);
    Tensor latents = s.normal({16, 3, 8, 12}), out = s.normal({16, 3, 8, 12});
    for (int64_t start : {0, 3, 6, 9, 12, 15}) s.forward(s.inputs(latents, 0, start), out);
    EXPECT_EQ(s.state().caches.filled_latents[0], 12);
    results.push_back(copy(out));
  }
  EXPECT_EQ(results[0], results[1]);
}

// The velocity after a whole clip and a block, with a full KV cache.
std::vector<float> velocity_with(const DitTypes& types) {
  Session s(2, 1, types);
  Tensor latents = s.normal({16, 3, 8, 12}), out = s.normal({16, 3, 8, 12});
  for (int64_t start : {0, 3, 6, 9, 12}) s.forward(s.inputs(latents, 0, start), out);
  return copy(out);
}

double relative_rms(const std::vector<float>& got, const std::vector<float>& want) {
  double errors = 0, squares = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    errors += std::pow(double(got[i]) - want[i], 2);
    squares += std::pow(double(want[i]), 2);
  }
  return std::sqrt(errors / squares);
}

struct NarrowTypes {
  const char* name;
  DType weights, kv;
  double error;  // of the velocity, rms relative to that of f32: what it was when this was written
};

class NarrowTypesTest : public ::testing::TestWithParam<NarrowTypes> {};

// Both ways: an error far below the format's means that another format was used.
TEST_P(NarrowTypesTest, VelocityErrorIsTheFormats) {
  DitTypes types(DType::kF32);
  const std::vector<float> want = velocity_with(types);
  types.weights = GetParam().weights;
  types.kv = GetParam().kv;
  const double error = relative_rms(velocity_with(types), want);
  EXPECT_GT(error, GetParam().error / 1.5);
  EXPECT_LT(error, GetParam().error * 1.5);
}

INSTANTIATE_TEST_SUITE_P(Types, NarrowTypesTest,
                         ::testing::Values(NarrowTypes{"kv_bf16", DType::kF32, DType::kBF16, 1.07e-4},
                                           NarrowTypes{"kv_int8", DType::kF32, DType::kI8, 3.0e-4},
                                           NarrowTypes{"kv_fp8", DType::kF32, DType::kF8E4M3, 1.87e-3},
                                           NarrowTypes{"weights_int8", DType::kI8, DType::kF32, 6.6e-3},
                                           NarrowTypes{"weights_fp8", DType::kF8E4M3, DType::kF32, 2.25e-2},
                                           NarrowTypes{"weights_q4", DType::kQ4, DType::kF32, 7.2e-2},
                                           NarrowTypes{"weights_int8_kv_fp8", DType::kI8, DType::kF8E4M3, 6.6e-3}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(S2vDit, MissingAndMisshapenTensorsAreNamed) {
  auto weights = *open_safetensors(kGolden + "/weights.safetensors");
  auto backend = *make_backend("reference", {.threads = 1});
  Budget budget;
  for (const char* name : {"blocks.1.self_attn.norm_q.weight", "audio_injector.injector_adain_layers.1.linear.bias",
                           "head.head.weight", "casual_audio_encoder.weights", "frame_packer.proj_4x.weight"}) {
    Altered missing(weights, name, ""), misshapen(weights, "", name);
    for (const TensorSource* source : {&missing, &misshapen}) {
      auto dit = S2vDit::load(golden_config(), *source, *backend, budget, DType::kF32);
      ASSERT_FALSE(dit.ok());
      EXPECT_NE(dit.status().message().find(name), std::string::npos) << dit.status().message();
    }
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
}

TEST(DitConfig, RefusesInvalidValuesByKey) {
  auto message = [](const char* json) { return parse_dit_config(json, "config.json").status().message(); };
  const std::string rest = R"(,"num_layers":2,"ffn_dim":8)";
  EXPECT_NE(message("[]").find("not a JSON object"), std::string::npos);
  EXPECT_NE(message("{}").find("dim is missing, it must be a whole number"), std::string::npos);
  EXPECT_NE(message((R"({"dim":96,"num_heads":5)" + rest + "}").c_str()).find("does not split"), std::string::npos);
  EXPECT_NE(message((R"({"dim":96,"num_heads":"3")" + rest + "}").c_str()).find("num_heads"), std::string::npos);
  EXPECT_NE(message((R"({"dim":96,"num_heads":3,"audio_inject_layers":[2])" + rest + "}").c_str())
                .find("audio_inject_layers"),
            std::string::npos);
  // A value of another type is never left out or taken for something else.
  for (const char* wrong :
       {R"("eps":"x")", R"("eps":-1)", R"("eps":null)", R"("audio_inject_layers":5)",
        R"("audio_inject_layers":{"a":1})", R"("audio_inject_layers":["0"])",
        R"("audio_inject_layers":[18446744073709551615])", R"("text_len":64.5)", R"("text_len":true)",
        R"("freq_dim":-2)", R"("in_dim":[16])", R"("audio_dim":18446744073709551615)"}) {
    const std::string entry = wrong;
    std::string said = message((R"({"dim":96,"num_heads":3,)" + entry + rest + "}").c_str());
    EXPECT_NE(said.find(entry.substr(1, entry.find(':') - 2)), std::string::npos) << wrong << said;
    EXPECT_NE(said.find("must be"), std::string::npos) << wrong << said;
  }
}

}  // namespace
}  // namespace liveavatar
