#include "models/wan_vae/blocks.h"

#include <cmath>

#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/norm.h"

namespace liveavatar {

namespace {

Shape with_channels(const Shape& x, int64_t channels) { return {x[0], x[1], x[2], channels}; }

// x <- x + proj(attention(q, k, v)), q, k, v = 1x1 convolutions of norm(x), for each frame.
void attention_block(VaeContext& context, const AttentionWeights& w) {
  Backend& backend = context.backend();
  const Tensor& x = context.x();  // [F, h, w, C]
  int64_t frames = x.dim(0), tokens = x.dim(1) * x.dim(2), channels = x.dim(3);
  Tensor normed = context.scratch(0, x.shape);
  Tensor qkv = context.scratch(1, {3, frames, x.dim(1), x.dim(2), channels});
  Tensor q = qkv.slice(0, 1).reshape(x.shape), k = qkv.slice(1, 1).reshape(x.shape),
         v = qkv.slice(2, 1).reshape(x.shape);
  ops::channel_norm(backend, x, w.gain, Activation::kNone, normed);
  ops::conv(backend, normed, w.q, {}, q);
  ops::conv(backend, normed, w.k, {}, k);
  ops::conv(backend, normed, w.v, {}, v);
  AttentionSpec spec;
  spec.scale = 1.0f / std::sqrt(static_cast<float>(channels));
  Shape plane{tokens, channels};
  Tensor mixed = normed;  // reuses the buffer
  for (int64_t f = 0; f < frames; ++f) {
    KeyValues keys{k.slice(f, 1).reshape(plane), v.slice(f, 1).reshape(plane)};
    ops::attention(backend, q.slice(f, 1).reshape(plane), {&keys, 1}, spec, mixed.slice(f, 1).reshape(plane));
  }
  Epilogue epilogue;
  epilogue.residual = x;
  ops::conv(backend, mixed, w.proj, {}, x, epilogue);
}

}  // namespace

Tensor VaeContext::scratch(int which, const Shape& shape, DType dtype) const {
  const Tensor& buffer = scratch_.buffers[static_cast<size_t>((at_ + 1 + which) % 3)];
  Tensor value(buffer.address(), shape, dtype, buffer.device);
  LA_CHECK(value.bytes() <= scratch_.buffer_bytes);
  return value;
}

void VaeContext::swap_in(int which, const Tensor& value) {
  at_ = (at_ + 1 + which) % 3;
  LA_CHECK(value.address() == scratch_.buffers[static_cast<size_t>(at_)].address());
  x_ = value;
}

void push_cache(Backend& backend, const Tensor& x, const Tensor& cache) {
  int64_t frames = x.dim(0), kept = cache.dim(0);
  if (frames >= kept) {
    ops::copy(backend, x.slice(frames - kept, kept), cache);
    return;
  }
  for (int64_t f = 0; f + frames < kept; ++f) {
    ops::copy(backend, cache.slice(f + frames, 1), cache.slice(f, 1));
  }
  ops::copy(backend, x, cache.slice(kept - frames, frames));
}

void VaeContext::fixed_point(const Tensor& x, const Tensor& cache) const {
  if (!step_.at_fixed_point) return;
  for (int64_t f = 0; f < cache.dim(0); ++f) ops::copy(step_.backend, x.slice(0, 1), cache.slice(f, 1));
}

void causal_conv(VaeContext& context, const Tensor& x, const ConvWeight& w, const Tensor& cache, const Tensor& out,
                 const Tensor& residual) {
  context.fixed_point(x, cache);
  ConvGeometry geometry;
  geometry.history = cache;
  geometry.pad_top = geometry.pad_bottom = w.kernel[1] / 2;
  geometry.pad_left = geometry.pad_right = w.kernel[2] / 2;
  Epilogue epilogue;
  epilogue.residual = residual;
  ops::conv(context.backend(), x, w, geometry, out, epilogue);
  push_cache(context.backend(), x, cache);
}

void conv_step(VaeContext& context, const ConvWeight& w, const Tensor& cache) {
  Tensor out = context.scratch(0, with_channels(context.x().shape, w.out_channels));
  causal_conv(context, context.x(), w, cache, out);
  context.swap_in(0, out);
}

void residual_block(VaeContext& context, const ResidualWeights& w, const ResidualCache& cache) {
  Backend& backend = context.backend();
  Tensor x = context.x();                                          // [F, H, W, I]
  Shape out_shape = with_channels(x.shape, w.conv1.out_channels);  // [F, H, W, O]
  Tensor normed = context.scratch(0, x.shape), hidden = context.scratch(1, out_shape);
  ops::channel_norm(backend, x, w.gain1, Activation::kSilu, normed);
  causal_conv(context, normed, w.conv1, cache.conv1, hidden);
  Tensor hidden_normed = context.scratch(0, out_shape);
  ops::channel_norm(backend, hidden, w.gain2, Activation::kSilu, hidden_normed);
  if (w.shortcut.data == nullptr) {
    causal_conv(context, hidden_normed, w.conv2, cache.conv2, x, x);
    return;
  }
  Tensor out = hidden;  // reuses the buffer
  ops::conv(backend, x, w.shortcut, {}, out);
  causal_conv(context, hidden_normed, w.conv2, cache.conv2, out, out);
  context.swap_in(1, out);
}

void middle_blocks(VaeContext& context, const VaeHalfWeights& w, const VaeCausalCache& cache) {
  residual_block(context, w.middle0, cache.middle0);
  context.show("middle.0");
  attention_block(context, w.attention);
  context.show("middle.1");
  residual_block(context, w.middle2, cache.middle2);
  context.show("middle.2");
}

namespace {

Tensor head_input(VaeContext& context, const VaeHalfWeights& w) {
  Tensor normed = context.scratch(0, context.x().shape);
  ops::channel_norm(context.backend(), context.x(), w.head_gain, Activation::kSilu, normed);
  return normed;
}

}  // namespace

void head(VaeContext& context, const VaeHalfWeights& w, const Tensor& cache, const Tensor& out) {
  causal_conv(context, head_input(context, w), w.head, cache, out);
  context.show("head", out);
}

void push_head_cache(VaeContext& context, const VaeHalfWeights& w, const Tensor& cache) {
  push_cache(context.backend(), head_input(context, w), cache);
}

}  // namespace liveavatar
