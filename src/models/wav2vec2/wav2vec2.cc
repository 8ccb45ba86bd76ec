#include "models/wav2vec2/wav2vec2.h"

#include <algorithm>
#include <cmath>

#include "models/wav2vec2/timeline.h"
#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/transfer.h"

namespace liveavatar {
namespace {

constexpr int64_t kChunkFrames =
    200;  // the extractor is local in time: chunks of 4 s give the same numbers in little memory

// Columns after the extractor's first layer.
int64_t first_columns(int64_t frames) {
  constexpr int64_t kKernel = kExtractorKernels[0], kStride = kExtractorStrides[0];
  return (std::min(frames, kChunkFrames) - 1) * kHopSamples / kStride + (kReachSamples - kKernel) / kStride + 1;
}

LargestOps largest_ops(const Wav2Vec2Config& c, int64_t frames, DType dtype) {
  LargestOps ops;
  ops.attention = {c.heads, c.width, frames, dtype};
  ops.linear_k = std::max({c.width, c.ffn_dim, c.conv_dim});
  int64_t columns = first_columns(frames), in = 1;
  for (size_t i = 0; i < kExtractorKernels.size(); ++i, in = c.conv_dim)
    ops.convs.push_back({in, c.conv_dim, {1, 1, kExtractorKernels[i]}, kExtractorStrides[i], columns});
  int64_t of_group = c.width / c.position_groups;
  ops.convs.push_back({of_group, of_group, {1, 1, c.position_kernel}, 1, frames});
  return ops;
}

}  // namespace

Wav2Vec2Activations::Wav2Vec2Activations(const Wav2Vec2Config& c, int64_t frames, DType dtype, Arena& arena) {
  int64_t first_layer = first_columns(frames);
  samples = arena.tensor({(std::min(frames, kChunkFrames) - 1) * kHopSamples + kReachSamples}, DType::kF32);
  conv_a = arena.tensor({first_layer * c.conv_dim}, DType::kF32);
  conv_b = arena.tensor({first_layer * c.conv_dim / 2 + c.conv_dim}, DType::kF32);
  features = arena.tensor({frames, c.conv_dim}, DType::kF32);
  x = arena.tensor({frames, c.width}, DType::kF32);
  y = arena.tensor({frames, c.width}, dtype);
  q = arena.tensor({frames, c.width}, dtype);
  k = arena.tensor({frames, c.width}, dtype);
  v = arena.tensor({frames, c.width}, dtype);
  attended = arena.tensor({frames, c.width}, dtype);
  hidden = arena.tensor({frames, c.ffn_dim}, dtype);
}

Expected<Wav2Vec2Memory> Wav2Vec2Memory::allocate(const Wav2Vec2Config& c, int64_t frames, DType dtype,
                                                  Backend& backend, Budget& budget) {
  Wav2Vec2Memory memory;
  LA_RETURN_IF_ERROR(backend.reserve(largest_ops(c, frames, dtype)));
  Arena measure;
  Wav2Vec2Activations(c, frames, dtype, measure);
  LA_ASSIGN_OR_RETURN(memory.arena, Arena::allocate(budget, MemoryCategory::kAudio, measure.used_bytes()));
  Shape states{c.layers + 1, frames, c.width};
  LA_ASSIGN_OR_RETURN(memory.states, OwnedTensor::allocate(budget, MemoryCategory::kAudio, states, DType::kF32));
  return memory;
}

// Seven convolutions, each with LayerNorm over channels and GELU. samples give features.dim(0) frames.
void Wav2Vec2::extract(std::span<const float> samples, Wav2Vec2Activations& a, const Tensor& features) const {
  int64_t count = static_cast<int64_t>(samples.size());
  Tensor x = a.samples.front({1, 1, count, 1});
  std::copy_n(samples.data(), count, Upload(backend_, x).f32());
  for (size_t i = 0; i < weights_.extractor.size(); ++i) {
    const Wav2Vec2ConvLayer& w = weights_.extractor[i];
    ConvGeometry geometry{.stride = {1, 1, kExtractorStrides[i]}};
    Shape shape = ops::conv_shape(x.shape, w.conv, geometry);
    const Tensor& buffer = i % 2 == 0 ? a.conv_a : a.conv_b;
    Tensor out = buffer.front(shape);
    ops::conv(backend_, x, w.conv, geometry, out);
    ops::layer_norm_affine(backend_, out, config_.eps, w.norm_weight, w.norm_bias, out);
    ops::activate(backend_, out, Activation::kGeluErf, out);
    x = out;
  }
  ops::copy(backend_, x, features);
}

void Wav2Vec2::layer(const Wav2Vec2LayerWeights& w, const Tensor& x, Wav2Vec2Activations& a) const {
  int64_t frames = x.dim(0);
  Tensor y = a.y.slice(0, frames), q = a.q.slice(0, frames), k = a.k.slice(0, frames), v = a.v.slice(0, frames);
  Tensor attended = a.attended.slice(0, frames), hidden = a.hidden.slice(0, frames);
  ops::layer_norm_affine(backend_, x, config_.eps, w.norm1_weight, w.norm1_bias, y);
  ops::linear(backend_, y, w.q, q);
  ops::linear(backend_, y, w.k, k);
  ops::linear(backend_, y, w.v, v);
  const KeyValues keys{k, v};
  float scale = 1.0f / std::sqrt(static_cast<float>(config_.width / config_.heads));
  ops::attention(backend_, q, {&keys, 1}, {.heads = config_.heads, .scale = scale}, attended);
  ops::linear(backend_, attended, w.out, x, {.residual = x});
  ops::layer_norm_affine(backend_, x, config_.eps, w.norm2_weight, w.norm2_bias, y);
  ops::linear(backend_, y, w.up, hidden, {.activation = Activation::kGeluErf});
  ops::linear(backend_, hidden, w.down, x, {.residual = x});
}

void Wav2Vec2::hidden_states(std::span<const float> input_values, Wav2Vec2Activations& a, const Tensor& out,
                             const std::stop_token& stop) const {
  int64_t frames = frame_count(static_cast<int64_t>(input_values.size()));
  LA_CHECK(frames > 0 && frames <= a.x.dim(0) && out.shape == Shape({config_.layers + 1, frames, config_.width}));
  Tensor features = a.features.slice(0, frames), x = a.x.slice(0, frames);
  for (int64_t f = 0; f < frames && !stop.stop_requested(); f += kChunkFrames) {
    int64_t count = std::min(kChunkFrames, frames - f);
    auto samples = input_values.subspan(size_t(f * kHopSamples), size_t((count - 1) * kHopSamples + kReachSamples));
    extract(samples, a, features.slice(f, count));
  }
  ops::layer_norm_affine(backend_, features, config_.eps, weights_.projection_norm_weight,
                         weights_.projection_norm_bias, features);
  ops::linear(backend_, features, weights_.projection, x);
  // An even kernel: 64 zeros on the left, and the last of the columns it would give is dropped.
  Tensor first = out.slice(0, 1).reshape({1, 1, frames, config_.width});
  int64_t half = config_.position_kernel / 2;
  ops::conv(backend_, x.reshape({1, 1, frames, config_.width}), weights_.position,
            {.pad_left = half, .pad_right = config_.position_kernel - 1 - half}, first,
            {.activation = Activation::kGeluErf, .residual = x.reshape({1, 1, frames, config_.width})});
  ops::copy(backend_, first, x);
  for (int64_t i = 0; i < config_.layers && !stop.stop_requested(); ++i) {
    layer(weights_.layers[static_cast<size_t>(i)], x, a);
    Tensor state = out.slice(i + 1, 1).reshape({frames, config_.width});
    if (i + 1 < config_.layers) {
      ops::copy(backend_, x, state);
    } else {
      ops::layer_norm_affine(backend_, x, config_.eps, weights_.norm_weight, weights_.norm_bias, state);
    }
  }
}

Expected<OwnedTensor> Wav2Vec2::hidden_states(std::span<const float> input_values, Budget& budget) const {
  int64_t frames = frame_count(static_cast<int64_t>(input_values.size()));
  if (frames < 1) return invalid_argument("the audio is shorter than 25 ms");
  LA_ASSIGN_OR_RETURN(Wav2Vec2Memory memory, Wav2Vec2Memory::allocate(config_, frames, dtype_, backend_, budget));
  Wav2Vec2Activations a(config_, frames, dtype_, memory.arena);
  hidden_states(input_values, a, memory.states.tensor);
  return std::move(memory.states);
}

}  // namespace liveavatar
