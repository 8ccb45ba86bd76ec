// The CPU backend's scratch is the budget's: what models reserve is enough for every op they run, on every kernel path.
// Nothing is taken beside it.
#include <gtest/gtest.h>

#include <algorithm>

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/make_reference_backend.h"
#include "models/umt5/umt5.h"
#include "models/wan_vae/memory.h"
#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/linear.h"
#include "ops/make_backend.h"
#include "session/memory.h"
#include "support/mini.h"
#include "support/operands.h"
#include "support/resolved.h"
#include "weights/part.h"

namespace liveavatar {
namespace {

constexpr const char* kIsas[] = {"avx2", "avx512", "avx512bf16", "amx", "amx-model"};

// The CPU backend by its own type, which says what it took outside its budget. Null: this CPU lacks the ISA.
std::unique_ptr<cpu::CpuBackend> open_cpu(const std::string& isa, const BackendOptions& options) {
  auto choice = cpu::choose_isa(isa);
  if (!choice.ok()) return nullptr;
  return std::make_unique<cpu::CpuBackend>(*std::move(choice), options, *make_reference_backend(options));
}

// Ops of the real models' widths, of few rows and of zeros: what they compute is tested elsewhere.
class ScratchTest : public ::testing::TestWithParam<std::tuple<const char*, DType>> {
 protected:
  void SetUp() override {
    backend_ = open_cpu(std::get<0>(GetParam()), {.threads = 3, .int8_products = true, .budget = &budget_});
    if (!backend_) GTEST_SKIP() << "this CPU lacks " << std::get<0>(GetParam());
  }
  DType dtype() const { return std::get<1>(GetParam()); }

  void linear(int64_t k, DType weights) {
    LinearWeight w{.dtype = weights, .n = 70, .k = k};
    w.data =
        operands_.zeros({static_cast<int64_t>(backend_->packed_linear_bytes(w.n, k, weights))}, DType::kU8).address();
    ops::linear(*backend_, operands_.normal({101, k}, dtype()), w, operands_.zeros({101, 70}, dtype()));
    EXPECT_EQ(backend_->unreserved_bytes(), 0u) << "linear, k " << k << " of " << dtype_name(weights);
  }
  void conv(const Shape& x, ConvWeight w, const ConvGeometry& g) {
    w.dtype = dtype();
    w.data = operands_.zeros({static_cast<int64_t>(backend_->packed_conv_bytes(w))}, DType::kU8).address();
    Tensor in = operands_.normal(x, dtype());
    ops::conv(*backend_, in, w, g, operands_.zeros(ops::conv_shape(x, w, g), dtype()));
    EXPECT_EQ(backend_->unreserved_bytes(), 0u) << "convolution of " << x.str() << " to " << w.out_channels;
  }
  void attention(int64_t heads, int64_t d) {
    Tensor k = operands_.normal({500, heads * d}, dtype()), q = k.slice(0, 70);
    const KeyValues keys{k, k};
    for (bool in_8bit : {false, true})
      ops::attention(*backend_, q, {&keys, 1}, {.heads = heads, .in_8bit = in_8bit}, operands_.zeros(q.shape, dtype()));
    EXPECT_EQ(backend_->unreserved_bytes(), 0u) << "attention, " << heads << " heads of " << d;
  }

  Budget budget_;
  Operands operands_;
  std::unique_ptr<cpu::CpuBackend> backend_;
};

TEST_P(ScratchTest, HoldsTheVideoModels) {
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

TEST_P(ScratchTest, HoldsTheVaes) {
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

TEST_P(ScratchTest, HoldsTheAudioAndTextEncoders) {
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
TEST_P(ScratchTest, UnreservedOpsAreCountedOutsideTheBudget) {
  LinearWeight w{.dtype = dtype(), .n = 70, .k = 64};
  w.data =
      operands_.zeros({static_cast<int64_t>(backend_->packed_linear_bytes(70, 64, dtype()))}, DType::kU8).address();
  ops::linear(*backend_, operands_.normal({5, 64}, dtype()), w, operands_.zeros({5, 70}, dtype()));
  EXPECT_GT(backend_->unreserved_bytes(), 0u);
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

std::string case_name(const ::testing::TestParamInfo<ScratchTest::ParamType>& info) {
  std::string name = std::get<0>(info.param) + std::string("_") + dtype_name(std::get<1>(info.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Isas, ScratchTest,
                         ::testing::Combine(::testing::ValuesIn(kIsas), ::testing::Values(DType::kF32, DType::kBF16)),
                         case_name);

// Opens the CPU backend for the models and keeps its type.
class CpuSource : public DeviceSource {
 public:
  CpuSource(std::string isa, bool int8_products) : isa_(std::move(isa)), int8_products_(int8_products) {}
  Allocator& allocator() override { return host_allocator(); }
  Expected<std::unique_ptr<Backend>> open(const BackendOptions& asked) override {
    BackendOptions options = asked;
    options.int8_products = int8_products_;
    auto backend = open_cpu(isa_, options);
    opened_ = backend.get();
    return std::unique_ptr<Backend>(std::move(backend));
  }
  const cpu::CpuBackend& opened() const { return *opened_; }

 private:
  std::string isa_;
  bool int8_products_;
  const cpu::CpuBackend* opened_ = nullptr;
};

class ScratchOfMiniTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!open_cpu(GetParam(), {.threads = 1})) GTEST_SKIP() << "this CPU lacks " << GetParam();
  }
};

TEST_P(ScratchOfMiniTest, TheVideoModelAndTheVaeStayInTheBudget) {
  for (bool int8_products : {false, true}) {
    EngineOptions options = mini_options(3);
    options.weights_dtype = int8_products ? WeightsType::kInt8 : WeightsType::kSameAsDtype;
    CpuSource source(GetParam(), int8_products);
    auto models = load_models(options, &source);
    ASSERT_TRUE(models.ok()) << models.status().message();
    Status status = run_job(**models, mini_job(), {.on_chunk = [](const VideoChunk&) { return true; }});
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(source.opened().unreserved_bytes(), 0u);
  }
}

TEST_P(ScratchOfMiniTest, TheEncodersStayInTheBudget) {
  const std::unique_ptr<Checkpoint> checkpoint = *Checkpoint::open(mini_options());
  for (DType dtype : {DType::kBF16, DType::kF32}) {
    Budget budget;
    auto backend = open_cpu(GetParam(), {.threads = 3, .int8_products = true, .budget = &budget});
    auto text = *Umt5::load(*checkpoint->text, *backend, dtype);
    ASSERT_TRUE(text->encode(std::vector<int32_t>(40, 5), budget).ok());
    auto audio = *Wav2Vec2::load(checkpoint->shapes.audio, *checkpoint->audio, *backend, budget, dtype);
    ASSERT_TRUE(audio->hidden_states(std::vector<float>(48000, 0.1f), budget).ok());
    EXPECT_EQ(backend->unreserved_bytes(), 0u) << dtype_name(dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, ScratchOfMiniTest, ::testing::ValuesIn(kIsas), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace liveavatar
