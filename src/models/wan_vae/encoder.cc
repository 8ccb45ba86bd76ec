#include "models/wan_vae/encoder.h"

#include "ops/conv.h"
#include "ops/layout.h"

namespace liveavatar {

namespace {

// Halves rows and columns and, where the layer is temporal and this is not the first step, frames.
void downsample(VaeFlow& flow, const VaeLayerWeights& w, const Tensor& history, bool first) {
  Backend& backend = flow.backend();
  Tensor x = flow.x();  // [F, H, W, C]
  ConvGeometry spatial;
  spatial.stride = {1, 2, 2};
  spatial.pad_bottom = spatial.pad_right = 1;
  Tensor small = flow.side(0, {x.dim(0), x.dim(1) / 2, x.dim(2) / 2, w.layer.out_channels});
  ops::conv(backend, x, w.resample.spatial, spatial, small);
  flow.become(0, small);
  if (!w.layer.temporal) return;
  flow.settle(small, history);
  if (!first) {
    ConvGeometry time;
    time.stride = {2, 1, 1};
    time.history = history;  // [1, H/2, W/2, C]: F frames with the one before them make F/2
    Tensor fewer = flow.side(0, {small.dim(0) / 2, small.dim(1), small.dim(2), small.dim(3)});
    ops::conv(backend, small, w.resample.time, time, fewer);
    flow.become(0, fewer);
  }
  remember(backend, small, history);
}

}  // namespace

void encode_step(const VaeStep& step, const Tensor& pixels, const Tensor& z) {
  const VaeHalfWeights& w = step.weights.encoder;
  const VaeHistory& history = step.memory.history;
  VaeFlow flow(step);
  Tensor input = flow.side(0, {pixels.dim(1), pixels.dim(2), pixels.dim(3), 3});
  ops::channels_last(step.backend, pixels, input);
  flow.become(0, input);
  conv_step(flow, w.conv1, history.conv1);
  flow.show("conv1");
  for (size_t i = 0; i < w.layers.size() && !step.stop.stop_requested(); ++i) {
    if (w.layers[i].layer.kind == VaeLayer::Kind::kResidual) {
      residual_block(flow, w.layers[i].residual, history.layers[i].residual);
    } else {
      downsample(flow, w.layers[i], history.layers[i].time, step.first);
    }
    flow.show_numbered("downsamples", i);
  }
  if (step.stop.stop_requested()) return;
  middle_blocks(flow, w, history);
  // From here on f32: a few channels at an eighth of the resolution.
  int64_t rows = flow.x().dim(1), columns = flow.x().dim(2);
  Tensor moments = flow.side(1, {1, rows, columns, w.head.out_channels}, DType::kF32);  // mean and log-variance
  head(flow, w, history.head, moments);
  Tensor mean = flow.side(0, {1, rows, columns, z.dim(0)}, DType::kF32);
  ops::conv(step.backend, moments, step.weights.to_mean, {}, mean);
  ops::channels_first(step.backend, mean, z, step.weights.to_scale, step.weights.to_shift);
}

}  // namespace liveavatar
