#include "models/wan_vae/layout.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace liveavatar {

void VaeDecodeStream::lay_out(const WanVaeConfig& c, int64_t height, int64_t width, DType dtype, Arena& arena) {
  states_ = CausalStates();
  VaeLayout layout(c, dtype, arena, states_);
  size_t last = c.dim_mult.size() - 1;
  int64_t in = c.width(last), h = height, w = width;
  layout.conv(h, w, c.z_dim);
  layout.picture(1, h, w, std::max(in, c.z_dim));
  for (int i = 0; i < 2; ++i) layout.res_block(h, w, in, in);
  for (size_t s = 0; s <= last; ++s) {
    int64_t out = c.width(last - s);
    for (int64_t b = 0; b < c.res_blocks + 1; ++b) {
      layout.res_block(h, w, in, out);
      in = out;
    }
    if (s == last) break;
    if (c.temporal_downsample[last - 1 - s]) layout.conv(h, w, out);
    in = out / 2;
    h *= 2;
    w *= 2;
  }
  layout.conv(h, w, in);
  layout.picture(4, h, w, std::max<int64_t>(in, 3));
  work_ = layout.work(height, width);
}

Expected<std::unique_ptr<VaeDecodeStream>> VaeDecodeStream::open(WanVae& vae, int64_t latent_height, int64_t latent_width) {
  LA_CHECK(latent_height > 0 && latent_width > 0);
  std::unique_ptr<VaeDecodeStream> stream(new VaeDecodeStream(vae));
  Arena measure;
  stream->lay_out(vae.config(), latent_height, latent_width, vae.dtype(), measure);
  LA_ASSIGN_OR_RETURN(stream->arena_, Arena::allocate(vae.budget(), Tenant::kVae, measure.used_bytes()));
  stream->lay_out(vae.config(), latent_height, latent_width, vae.dtype(), stream->arena_);
  stream->height_ = latent_height;
  stream->width_ = latent_width;
  return stream;
}

// Time is doubled first, but never for the video's first latent: it does not even enter the time convolution's past.
Tensor VaeDecodeStream::up(const Tensor& x, const VaeResample& w) {
  Backend& backend = vae_.backend();
  Tensor frames = x;
  if (w.even) {
    const Tensor& past = states_.next();
    if (!first_) {
      int64_t n = x.dim(0);
      Shape one{1, x.dim(1), x.dim(2), x.dim(3)};
      Tensor half = VaeBlocks::view(work_.b, x.shape);
      frames = VaeBlocks::view(work_.c, {2 * n, one[1], one[2], one[3]});
      for (int odd = 0; odd < 2; ++odd) {
        ops::conv(backend, x, odd ? *w.odd : *w.even, {.history = past}, half);
        for (int64_t f = 0; f < n; ++f) ops::copy(backend, half.slice(f, 1), frames.slice(2 * f + odd, 1));
      }
      if (n == 1) ops::copy(backend, past.slice(1, 1), past.slice(0, 1));
      int64_t kept = std::min<int64_t>(n, 2);
      ops::copy(backend, x.slice(n - kept, kept), past.slice(2 - kept, kept));
    }
  }
  Tensor source = frames.data == work_.a.data ? VaeBlocks::view(work_.b, frames.shape) : frames;
  if (source.data != frames.data) ops::copy(backend, frames, source);
  Tensor out = VaeBlocks::view(work_.a, {frames.dim(0), 2 * x.dim(1), 2 * x.dim(2), w.conv.out_channels});
  ops::conv(backend, source, w.conv, {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1, .upsample2x = true}, out);
  return out;
}

int64_t VaeDecodeStream::step(const Tensor& z, const Tensor& frames) {
  LA_CHECK(z.shape == Shape({vae_.config().z_dim, 1, height_, width_}));
  Backend& backend = vae_.backend();
  const VaeDecoderWeights& w = vae_.weights().decoder;
  VaeBlocks blocks(vae_, states_, work_);
  states_.begin();
  ops::channels_last(backend, z, work_.latent, vae_.weights().decode_scale, vae_.weights().decode_shift);
  Tensor latent = VaeBlocks::view(work_.b, work_.latent.shape);
  ops::linear(backend, work_.latent, w.from_latent, latent);
  Tensor x = VaeBlocks::view(work_.a, {1, height_, width_, w.conv_in.out_channels});
  blocks.causal_conv(latent, w.conv_in, x);
  x = blocks.middle(x, w.middle);
  for (const VaeStage& stage : w.stages) {
    for (const VaeResBlock& block : stage.blocks) x = blocks.res_block(x, block);
    if (stage.resample) x = up(x, *stage.resample);
  }
  Tensor normed = VaeBlocks::view(work_.b, x.shape);
  ops::channel_norm(backend, x, w.head_gain, Activation::kSilu, normed);
  int64_t count = x.dim(0);
  LA_CHECK(frames.rank() == 4 && frames.dim(0) >= count && frames.dim(1) == x.dim(1) && frames.dim(2) == x.dim(2));
  blocks.causal_conv(normed, w.head, frames.slice(0, count));
  first_ = false;
  return count;
}

}  // namespace liveavatar
