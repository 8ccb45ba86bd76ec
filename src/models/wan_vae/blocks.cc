#include "models/wan_vae/blocks.h"

#include <cmath>

#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/norm.h"

namespace liveavatar {

namespace {

Shape with_channels(const Shape& x, int64_t channels) { return {x[0], x[1], x[2], channels}; }

// x <- x + proj(attention(q, k, v)), q, k, v = 1x1 convolutions of norm(x); frames apart.
void attention_block(VaeFlow& flow, const AttentionWeights& w) {
  Backend& backend = flow.backend();
  const Tensor& x = flow.x();  // [F, h, w, C]
  int64_t frames = x.dim(0), tokens = x.dim(1) * x.dim(2), channels = x.dim(3);
  Tensor normed = flow.side(0, x.shape);
  Tensor qkv = flow.side(1, {3, frames, x.dim(1), x.dim(2), channels});
  Tensor q = qkv.slice(0, 1).reshape(x.shape), k = qkv.slice(1, 1).reshape(x.shape),
         v = qkv.slice(2, 1).reshape(x.shape);
  ops::channel_norm(backend, x, w.gain, Activation::kNone, normed);
  ops::conv(backend, normed, w.q, {}, q);
  ops::conv(backend, normed, w.k, {}, k);
  ops::conv(backend, normed, w.v, {}, v);
  AttentionSpec spec;
  spec.scale = 1.0f / std::sqrt(static_cast<float>(channels));
  Shape plane{tokens, channels};
  Tensor mixed = normed;  // whose own content is no longer needed
  for (int64_t f = 0; f < frames; ++f) {
    KeyValues keys{k.slice(f, 1).reshape(plane), v.slice(f, 1).reshape(plane)};
    ops::attention(backend, q.slice(f, 1).reshape(plane), {&keys, 1}, spec, mixed.slice(f, 1).reshape(plane));
  }
  Epilogue epilogue;
  epilogue.residual = x;
  ops::conv(backend, mixed, w.proj, {}, x, epilogue);
}

}  // namespace

Tensor VaeFlow::side(int which, const Shape& shape, DType dtype) const {
  const Tensor& piece = scratch_.pieces[static_cast<size_t>((at_ + 1 + which) % 3)];
  Tensor value(piece.address(), shape, dtype, piece.device);
  LA_CHECK(value.bytes() <= scratch_.piece_bytes);
  return value;
}

void VaeFlow::become(int which, const Tensor& value) {
  at_ = (at_ + 1 + which) % 3;
  LA_CHECK(value.address() == scratch_.pieces[static_cast<size_t>(at_)].address());
  x_ = value;
}

void remember(Backend& backend, const Tensor& x, const Tensor& history) {
  int64_t frames = x.dim(0), kept = history.dim(0);
  if (frames >= kept) {
    ops::copy(backend, x.slice(frames - kept, kept), history);
    return;
  }
  for (int64_t f = 0; f + frames < kept; ++f) {
    ops::copy(backend, history.slice(f + frames, 1), history.slice(f, 1));
  }
  ops::copy(backend, x, history.slice(kept - frames, frames));
}

void VaeFlow::settle(const Tensor& x, const Tensor& history) const {
  if (!step_.settled) return;
  for (int64_t f = 0; f < history.dim(0); ++f) ops::copy(step_.backend, x.slice(0, 1), history.slice(f, 1));
}

void causal_conv(VaeFlow& flow, const Tensor& x, const ConvWeight& w, const Tensor& history, const Tensor& out,
                 const Tensor& residual) {
  flow.settle(x, history);
  ConvGeometry geometry;
  geometry.history = history;
  geometry.pad_top = geometry.pad_bottom = w.kernel[1] / 2;
  geometry.pad_left = geometry.pad_right = w.kernel[2] / 2;
  Epilogue epilogue;
  epilogue.residual = residual;
  ops::conv(flow.backend(), x, w, geometry, out, epilogue);
  remember(flow.backend(), x, history);
}

void conv_step(VaeFlow& flow, const ConvWeight& w, const Tensor& history) {
  Tensor out = flow.side(0, with_channels(flow.x().shape, w.out_channels));
  causal_conv(flow, flow.x(), w, history, out);
  flow.become(0, out);
}

void residual_block(VaeFlow& flow, const ResidualWeights& w, const ResidualHistory& history) {
  Backend& backend = flow.backend();
  Tensor x = flow.x();                                             // [F, H, W, I]
  Shape out_shape = with_channels(x.shape, w.conv1.out_channels);  // [F, H, W, O]
  Tensor normed = flow.side(0, x.shape), hidden = flow.side(1, out_shape);
  ops::channel_norm(backend, x, w.gain1, Activation::kSilu, normed);
  causal_conv(flow, normed, w.conv1, history.conv1, hidden);
  Tensor hidden_normed = flow.side(0, out_shape);
  ops::channel_norm(backend, hidden, w.gain2, Activation::kSilu, hidden_normed);
  if (w.shortcut.data == nullptr) {
    causal_conv(flow, hidden_normed, w.conv2, history.conv2, x, x);
    return;
  }
  Tensor out = hidden;  // whose own content is no longer needed
  ops::conv(backend, x, w.shortcut, {}, out);
  causal_conv(flow, hidden_normed, w.conv2, history.conv2, out, out);
  flow.become(1, out);
}

void middle_blocks(VaeFlow& flow, const VaeHalfWeights& w, const VaeHistory& history) {
  residual_block(flow, w.middle0, history.middle0);
  flow.show("middle.0");
  attention_block(flow, w.attention);
  flow.show("middle.1");
  residual_block(flow, w.middle2, history.middle2);
  flow.show("middle.2");
}

namespace {

Tensor head_input(VaeFlow& flow, const VaeHalfWeights& w) {
  Tensor normed = flow.side(0, flow.x().shape);
  ops::channel_norm(flow.backend(), flow.x(), w.head_gain, Activation::kSilu, normed);
  return normed;
}

}  // namespace

void head(VaeFlow& flow, const VaeHalfWeights& w, const Tensor& history, const Tensor& out) {
  causal_conv(flow, head_input(flow, w), w.head, history, out);
  flow.show("head", out);
}

void remember_head(VaeFlow& flow, const VaeHalfWeights& w, const Tensor& history) {
  remember(flow.backend(), head_input(flow, w), history);
}

}  // namespace liveavatar
