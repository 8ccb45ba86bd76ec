#include "models/wan_vae/encoder.h"

#include "ops/conv.h"
#include "ops/layout.h"

namespace liveavatar {

namespace {

// Halves rows and columns, and frames if the layer is temporal and this is not the first step.
void downsample(VaeContext& context, const VaeLayerWeights& w, const Tensor& cache, bool first) {
  Backend& backend = context.backend();
  Tensor x = context.x();  // [F, H, W, C]
  ConvGeometry spatial;
  spatial.stride = {1, 2, 2};
  spatial.pad_bottom = spatial.pad_right = 1;
  Tensor small = context.scratch(0, {x.dim(0), x.dim(1) / 2, x.dim(2) / 2, w.layer.out_channels});
  ops::conv(backend, x, w.resample.spatial, spatial, small);
  context.swap_in(0, small);
  if (!w.layer.temporal) return;
  context.fixed_point(small, cache);
  if (!first) {
    ConvGeometry time;
    time.stride = {2, 1, 1};
    time.history = cache;  // [1, H/2, W/2, C]: F frames and the one before them give F/2
    Tensor fewer = context.scratch(0, {small.dim(0) / 2, small.dim(1), small.dim(2), small.dim(3)});
    ops::conv(backend, small, w.resample.time, time, fewer);
    context.swap_in(0, fewer);
  }
  push_cache(backend, small, cache);
}

}  // namespace

void encode_step(const VaeStep& step, const Tensor& pixels, const Tensor& z) {
  const VaeHalfWeights& w = step.weights.encoder;
  const VaeCausalCache& cache = step.memory.cache;
  VaeContext context(step);
  Tensor input = context.scratch(0, {pixels.dim(1), pixels.dim(2), pixels.dim(3), 3});
  ops::channels_last(step.backend, pixels, input);
  context.swap_in(0, input);
  conv_step(context, w.conv1, cache.conv1);
  context.show("conv1");
  for (size_t i = 0; i < w.layers.size() && !step.stop.stop_requested(); ++i) {
    if (w.layers[i].layer.kind == VaeLayer::Kind::kResidual) {
      residual_block(context, w.layers[i].residual, cache.layers[i].residual);
    } else {
      downsample(context, w.layers[i], cache.layers[i].time, step.first);
    }
    context.show_numbered("downsamples", i);
  }
  if (step.stop.stop_requested()) return;
  middle_blocks(context, w, cache);
  // f32 from here on: few channels at 1/8 of the resolution.
  int64_t rows = context.x().dim(1), columns = context.x().dim(2);
  Tensor moments = context.scratch(1, {1, rows, columns, w.head.out_channels}, DType::kF32);  // mean and log-variance
  head(context, w, cache.head, moments);
  Tensor mean = context.scratch(0, {1, rows, columns, z.dim(0)}, DType::kF32);
  ops::conv(step.backend, moments, step.weights.to_mean, {}, mean);
  ops::channels_first(step.backend, mean, z, step.weights.to_scale, step.weights.to_shift);
}

}  // namespace liveavatar
