// The CPU backend's scratch is the budget's: what models reserve is enough for every op they run, on every kernel path.
// Nothing is taken beside it.
#include <cstdlib>

#include "../ops/fixture.h"
#include "backend/cpu/cpu_backend.h"
#include "ops/make_backend.h"
#include "../support/resolved.h"
#include "mini.h"
#include "models/wan_vae/memory.h"
#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/linear.h"
#include "session/memory.h"

namespace liveavatar {
namespace {

size_t unreserved_bytes(const Backend& backend) { return dynamic_cast<const cpu::CpuBackend&>(backend).unreserved_bytes(); }

// Ops of the real models' widths, of few rows and of zeros: what they compute is tested elsewhere.
class ScratchTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto backend =
        make_backend("cpu", {.threads = 3, .isa = GetParam().isa, .int8_products = true, .budget = &budget_});
    if (!backend.ok()) GTEST_SKIP() << "this CPU lacks " << GetParam().isa;
    backend_ = *std::move(backend);
  }
  DType dtype() const { return GetParam().dtype; }

  void linear(int64_t k, DType weights) {
    LinearWeight w{.dtype = weights, .n = 70, .k = k};
    w.data =
        operands_.zeros({static_cast<int64_t>(backend_->packed_linear_bytes(w.n, k, weights))}, DType::kU8).address();
    ops::linear(*backend_, operands_.normal({101, k}, dtype()), w, operands_.zeros({101, 70}, dtype()));
    EXPECT_EQ(unreserved_bytes(*backend_), 0u) << "linear, k " << k << " of " << dtype_name(weights);
  }
  void conv(const Shape& x, ConvWeight w, const ConvGeometry& g) {
    w.dtype = dtype();
    w.data = operands_.zeros({static_cast<int64_t>(backend_->packed_conv_bytes(w))}, DType::kU8).address();
    Tensor in = operands_.normal(x, dtype());
    ops::conv(*backend_, in, w, g, operands_.zeros(ops::conv_shape(x, w, g), dtype()));
    EXPECT_EQ(unreserved_bytes(*backend_), 0u) << "convolution of " << x.str() << " to " << w.out_channels;
  }
  void attention(int64_t heads, int64_t d) {
    Tensor k = operands_.normal({500, heads * d}, dtype()), q = k.slice(0, 70);
    const KeyValues keys{k, k};
    for (bool in_8bit : {false, true})
      ops::attention(*backend_, q, {&keys, 1}, {.heads = heads, .in_8bit = in_8bit}, operands_.zeros(q.shape, dtype()));
    EXPECT_EQ(unreserved_bytes(*backend_), 0u) << "attention, " << heads << " heads of " << d;
  }

  Budget budget_;
  Operands operands_;
  std::unique_ptr<Backend> backend_;
};

TEST_P(ScratchTest, TheVideoModels) {
  for (const char* name : {"1.3b", "14b"}) {
    const DitConfig c = named_model_shapes(name)->dit;
    ASSERT_TRUE(backend_->reserve(largest_ops(c, {8, 8, 12, 3}, dtype())).ok());
    for (DType weights : {dtype(), DType::kI8, DType::kF8E4M3, DType::kQ4})
      for (int64_t k : {c.dim, c.ffn_dim}) linear(k, weights);
    linear(c.text_dim, dtype());
    attention(c.heads, c.head_dim());
    for (int64_t in : {c.audio_dim, c.dim / 2})
      conv({1, 5, 4, in}, {.out_channels = 70, .in_channels = in, .kernel = {1, 3, 1}}, {.stride = {1, 2, 1}});
  }
}

TEST_P(ScratchTest, TheVaes) {
  const WanVaeConfig vae = named_model_shapes("14b")->vae;
  auto decoder = allocate_decoder(vae, {16, 32, dtype()}, *backend_, budget_);
  ASSERT_TRUE(decoder.ok());
  const ConvGeometry padded{.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1, .zero_frames = 2};
  ConvGeometry doubling = padded;
  doubling.upsample2x = true;
  doubling.zero_frames = 0;
  auto cube = [](int64_t out, int64_t in) {
    return ConvWeight{.out_channels = out, .in_channels = in, .kernel = {3, 3, 3}};
  };
  conv({1, 4, 256, 96}, cube(96, 96), padded);
  conv({1, 4, 256, 96}, cube(3, 96), padded);  // narrow
  conv({1, 2, 32, 384}, cube(384, 384), padded);
  conv({1, 2, 32, 384}, {.out_channels = 384, .in_channels = 384, .kernel = {3, 1, 1}}, {.zero_frames = 2});
  conv({1, 2, 128, 192}, {.out_channels = 96, .in_channels = 192, .kernel = {1, 3, 3}}, doubling);
  conv({1, 2, 32, 384}, {.out_channels = 384, .in_channels = 384}, {});
  attention(1, 384);
  auto encoder = allocate_encoder(vae, {128, 256, dtype()}, *backend_, budget_);
  ASSERT_TRUE(encoder.ok());
  conv({1, 4, 256, 3}, cube(96, 3), padded);
  conv({1, 5, 256, 96}, {.out_channels = 96, .in_channels = 96, .kernel = {1, 3, 3}},
       {.stride = {1, 2, 2}, .pad_right = 1});
  // Narrow convolutions of the mini shape, which has few channels everywhere.
  auto mini = allocate_decoder(named_model_shapes("mini")->vae, {16, 32, dtype()}, *backend_, budget_);
  ASSERT_TRUE(mini.ok());
  for (int64_t out : {3, 8, 16}) conv({1, 4, 256, 8}, cube(out, 8), padded);
}

TEST_P(ScratchTest, TheSoundsAndTheTexts) {
  const ModelShapes shapes = *named_model_shapes("14b");
  auto sound = Wav2Vec2Memory::allocate(shapes.audio, 150, dtype(), *backend_, budget_);
  ASSERT_TRUE(sound.ok());
  conv({1, 1, 999, 1}, {.out_channels = 512, .in_channels = 1, .kernel = {1, 1, 10}}, {.stride = {1, 1, 5}});
  conv({1, 1, 400, 512}, {.out_channels = 512, .in_channels = 512, .kernel = {1, 1, 3}}, {.stride = {1, 1, 2}});
  conv({1, 1, 150, 1024}, {.out_channels = 1024, .in_channels = 1024, .kernel = {1, 1, 128}, .groups = 16},
       {.pad_left = 64, .pad_right = 63});
  linear(shapes.audio.ffn_dim, dtype());
  ASSERT_TRUE(backend_->reserve({.attention = {shapes.text.heads, shapes.text.attention_dim, 500, dtype()}}).ok());
  auto text = Umt5Memory::allocate(shapes.text, 16, dtype(), *backend_, budget_);
  ASSERT_TRUE(text.ok());
  linear(shapes.text.ffn_dim, dtype());
  attention(shapes.text.heads, shapes.text.attention_dim / shapes.text.heads);
}

// Without a reservation it is seen.
TEST_P(ScratchTest, WhatNobodyReservedForIsOutside) {
  LinearWeight w{.dtype = dtype(), .n = 70, .k = 64};
  w.data =
      operands_.zeros({static_cast<int64_t>(backend_->packed_linear_bytes(70, 64, dtype()))}, DType::kU8).address();
  ops::linear(*backend_, operands_.normal({5, 64}, dtype()), w, operands_.zeros({5, 70}, dtype()));
  EXPECT_GT(unreserved_bytes(*backend_), 0u);
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Backends, ScratchTest, ::testing::ValuesIn(all_cases()), case_name);

// A whole job on each kernel path, from the prompt to the last frame.
TEST(Scratch, AMiniJobTakesNothingBesideTheBudget) {
  struct Isa {  // of this process, for as long as it lives
    explicit Isa(const char* name) { setenv("LIVEAVATAR_ISA", name, 1); }
    ~Isa() { unsetenv("LIVEAVATAR_ISA"); }
  };
  const char* before = std::getenv("LIVEAVATAR_ISA");
  if (before != nullptr) GTEST_SKIP() << "LIVEAVATAR_ISA is forced";
  for (const char* name : {"avx2", "avx512", "avx512bf16", "amx", "amx-model"}) {
    Isa isa(name);
    if (!make_backend("cpu", {.threads = 1}).ok()) continue;
    for (bool int8_products : {false, true}) {
      EngineOptions options = mini_options(3);
      options.int8_products = int8_products;
      options.weights_dtype = int8_products ? "int8" : "";
      auto models = load_models(options);
      ASSERT_TRUE(models.ok()) << models.status().message();
      Status status = run_job(**models, mini_job(), {.on_block = [](const VideoBlock&) { return true; }});
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(unreserved_bytes(*(*models)->backend), 0u) << name;
    }
  }
}

}  // namespace
}  // namespace liveavatar
