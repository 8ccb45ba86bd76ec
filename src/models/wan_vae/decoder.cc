#include "models/wan_vae/decoder.h"

#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/layout.h"

namespace liveavatar {

namespace {

// x [F, H, W, C] -> [2F, H, W, C]. The time convolution has two outputs for each frame: two kernels, one frame at a
// time, so that each writes its frame in place.
void double_frames(VaeContext& context, const ResampleWeights& w, const Tensor& cache) {
  Tensor x = context.x();
  Tensor out = context.scratch(0, {2 * x.dim(0), x.dim(1), x.dim(2), x.dim(3)});
  ConvGeometry geometry;
  geometry.history = cache;
  for (int64_t f = 0; f < x.dim(0); ++f) {
    Tensor frame = x.slice(f, 1);
    ops::conv(context.backend(), frame, w.time, geometry, out.slice(2 * f, 1));
    ops::conv(context.backend(), frame, w.time_odd, geometry, out.slice(2 * f + 1, 1));
    push_cache(context.backend(), frame, cache);
  }
  context.swap_in(0, out);
}

// Doubles frames if the layer is temporal, then rows and columns. The first latent skips the time convolution: the
// cache is zeros at the second one.
void upsample(VaeContext& context, const VaeLayerWeights& w, const Tensor& cache, bool first) {
  if (w.layer.temporal && !first) double_frames(context, w.resample, cache);
  Tensor x = context.x();
  ConvGeometry spatial;
  spatial.upsample2x = true;
  spatial.pad_top = spatial.pad_bottom = spatial.pad_left = spatial.pad_right = 1;
  Tensor out = context.scratch(0, {x.dim(0), 2 * x.dim(1), 2 * x.dim(2), w.layer.out_channels});
  ops::conv(context.backend(), x, w.resample.spatial, spatial, out);
  context.swap_in(0, out);
}

// All up to the first `count` layers.
void run_layers(VaeContext& context, const VaeStep& step, const Tensor& z, size_t count) {
  const VaeHalfWeights& w = step.weights.decoder;
  const VaeCausalCache& cache = step.memory.cache;
  Tensor raw = context.scratch(0, {1, z.dim(2), z.dim(3), z.dim(0)}, DType::kF32);
  ops::channels_last(step.backend, z, raw, step.weights.from_scale, step.weights.from_shift);
  Tensor mixed = context.scratch(1, raw.shape);
  ops::conv(step.backend, raw, step.weights.from_latent, {}, mixed);
  context.swap_in(1, mixed);
  context.show("conv2");
  conv_step(context, w.conv1, cache.conv1);
  context.show("conv1");
  middle_blocks(context, w, cache);
  for (size_t i = 0; i < count && !step.stop.stop_requested(); ++i) {
    if (w.layers[i].layer.kind == VaeLayer::Kind::kResidual) {
      residual_block(context, w.layers[i].residual, cache.layers[i].residual);
    } else {
      upsample(context, w.layers[i], cache.layers[i].time, step.first);
    }
    context.show_numbered("upsamples", i);
  }
}

}  // namespace

void prime_step(const VaeStep& step, const Tensor& z, size_t count) {
  const VaeHalfWeights& w = step.weights.decoder;
  VaeContext context(step);
  run_layers(context, step, z, count);
  if (step.stop.stop_requested()) return;
  if (count == w.layers.size()) push_head_cache(context, w, step.memory.cache.head);
}

void decode_step(const VaeStep& step, const Tensor& z, const Tensor& frames) {
  const VaeHalfWeights& w = step.weights.decoder;
  VaeContext context(step);
  run_layers(context, step, z, w.layers.size());
  if (step.stop.stop_requested()) return;
  head(context, w, step.memory.cache.head, frames);
  ops::clamp(step.backend, frames, -1, 1, frames);
}

}  // namespace liveavatar
