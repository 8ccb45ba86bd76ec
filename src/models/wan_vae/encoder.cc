#include "models/wan_vae/layout.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace liveavatar {

void VaeEncodeStream::lay_out(const WanVaeConfig& c, int64_t height, int64_t width, DType dtype, Arena& arena) {
  states_ = CausalStates();
  VaeLayout layout(c, dtype, arena, states_);
  layout.conv(height, width, 3);
  int64_t in = c.dim, h = height, w = width;
  for (size_t s = 0; s < c.dim_mult.size(); ++s) {
    for (int64_t b = 0; b < c.res_blocks; ++b) {
      layout.res_block(h, w, in, c.width(s));
      in = c.width(s);
    }
    if (s + 1 == c.dim_mult.size()) break;
    h /= 2;
    w /= 2;
    if (c.temporal_downsample[s]) layout.time_down(h, w, in);
  }
  for (int i = 0; i < 2; ++i) layout.res_block(h, w, in, in);
  layout.conv(h, w, in);
  layout.picture(4, height, width, std::max<int64_t>(3, c.dim));
  work_ = layout.work(h, w);
}

size_t VaeEncodeStream::bytes(const WanVaeConfig& config, int64_t height, int64_t width, DType dtype) {
  Arena measure;
  CausalStates states;
  VaeEncodeStream* none = nullptr;
  (void)none;
  return measure.used_bytes();
}

Expected<std::unique_ptr<VaeEncodeStream>> VaeEncodeStream::open(WanVae& vae, int64_t height, int64_t width) {
  LA_CHECK(height % 8 == 0 && width % 8 == 0 && height > 0 && width > 0);
  std::unique_ptr<VaeEncodeStream> stream(new VaeEncodeStream(vae));
  Arena measure;
  stream->lay_out(vae.config(), height, width, vae.dtype(), measure);
  LA_ASSIGN_OR_RETURN(stream->arena_, Arena::allocate(vae.budget(), Tenant::kVae, measure.used_bytes()));
  stream->lay_out(vae.config(), height, width, vae.dtype(), stream->arena_);
  stream->height_ = height;
  stream->width_ = width;
  return stream;
}

// Zeros at the bottom and right only, stride 2; then, from the second call on, time is halved.
Tensor VaeEncodeStream::down(const Tensor& x, const VaeResample& w) {
  Backend& backend = vae_.backend();
  Shape small{x.dim(0), x.dim(1) / 2, x.dim(2) / 2, x.dim(3)};
  Tensor half = VaeBlocks::view(work_.b, small);
  ops::conv(backend, x, w.conv, {.stride = {1, 2, 2}, .pad_bottom = 1, .pad_right = 1}, half);
  if (!w.time) {
    Tensor out = VaeBlocks::view(work_.a, small);
    ops::copy(backend, half, out);
    return out;
  }
  const Tensor& past = states_.next();
  Tensor last = half.slice(half.dim(0) - 1, 1);
  Tensor out = VaeBlocks::view(work_.a, {first_ ? 1 : x.dim(0) / 2, small[1], small[2], small[3]});
  if (first_) {
    ops::copy(backend, half, out);
  } else {
    ops::conv(backend, half, *w.time, {.stride = {2, 1, 1}, .history = past}, out);
  }
  ops::copy(backend, last, past);
  return out;
}

void VaeEncodeStream::step(const Tensor& pixels, const Tensor& z) {
  LA_CHECK(pixels.shape == Shape({3, first_ ? 1 : 4, height_, width_}));
  LA_CHECK(z.shape == Shape({vae_.config().z_dim, 1, height_ / 8, width_ / 8}));
  Backend& backend = vae_.backend();
  const VaeEncoderWeights& w = vae_.weights().encoder;
  VaeBlocks blocks(vae_, states_, work_);
  states_.begin();
  int64_t frames = pixels.dim(1);
  Tensor rgb = VaeBlocks::view(work_.b, {frames, height_, width_, 3});
  ops::channels_last(backend, pixels, rgb);
  Tensor x = VaeBlocks::view(work_.a, {frames, height_, width_, vae_.config().dim});
  blocks.causal_conv(rgb, w.conv_in, x);
  for (const VaeStage& stage : w.stages) {
    for (const VaeResBlock& block : stage.blocks) x = blocks.res_block(x, block);
    if (stage.resample) x = down(x, *stage.resample);
  }
  x = blocks.middle(x, w.middle);
  Tensor normed = VaeBlocks::view(work_.b, x.shape);
  ops::channel_norm(backend, x, w.head_gain, Activation::kSilu, normed);
  Tensor moments = VaeBlocks::view(work_.c, {1, x.dim(1), x.dim(2), w.head.out_channels});
  blocks.causal_conv(normed, w.head, moments);
  ops::linear(backend, moments, w.to_latent, work_.latent);
  ops::channels_first(backend, work_.latent, z, vae_.weights().encode_scale, vae_.weights().encode_shift);
  first_ = false;
}

}  // namespace liveavatar
