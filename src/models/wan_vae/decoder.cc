#include "models/wan_vae/decoder.h"

#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/layout.h"

namespace liveavatar {

namespace {

// x [F, H, W, C] -> [2F, H, W, C]. The time convolution has two outputs a frame: two kernels, frame by frame, so that
// each writes its frame in place.
void double_frames(VaeFlow& flow, const ResampleWeights& w, const Tensor& history) {
  Tensor x = flow.x();
  Tensor out = flow.side(0, {2 * x.dim(0), x.dim(1), x.dim(2), x.dim(3)});
  ConvGeometry geometry;
  geometry.history = history;
  for (int64_t f = 0; f < x.dim(0); ++f) {
    Tensor frame = x.slice(f, 1);
    ops::conv(flow.backend(), frame, w.time, geometry, out.slice(2 * f, 1));
    ops::conv(flow.backend(), frame, w.time_odd, geometry, out.slice(2 * f + 1, 1));
    remember(flow.backend(), frame, history);
  }
  flow.become(0, out);
}

// Doubles frames, where the layer is temporal, then rows and columns. The first latent never enters the time
// convolution: the second one's history is zeros.
void upsample(VaeFlow& flow, const VaeLayerWeights& w, const Tensor& history, bool first) {
  if (w.layer.temporal && !first) double_frames(flow, w.resample, history);
  Tensor x = flow.x();
  ConvGeometry spatial;
  spatial.upsample2x = true;
  spatial.pad_top = spatial.pad_bottom = spatial.pad_left = spatial.pad_right = 1;
  Tensor out = flow.side(0, {x.dim(0), 2 * x.dim(1), 2 * x.dim(2), w.layer.out_channels});
  ops::conv(flow.backend(), x, w.resample.spatial, spatial, out);
  flow.become(0, out);
}

// All up to the first `count` layers.
void run_layers(VaeFlow& flow, const VaeStep& step, const Tensor& z, size_t count) {
  const VaeHalfWeights& w = step.weights.decoder;
  const VaeHistory& history = step.memory.history;
  Tensor raw = flow.side(0, {1, z.dim(2), z.dim(3), z.dim(0)}, DType::kF32);
  ops::channels_last(step.backend, z, raw, step.weights.from_scale, step.weights.from_shift);
  Tensor mixed = flow.side(1, raw.shape);
  ops::conv(step.backend, raw, step.weights.from_latent, {}, mixed);
  flow.become(1, mixed);
  flow.show("conv2");
  conv_step(flow, w.conv1, history.conv1);
  flow.show("conv1");
  middle_blocks(flow, w, history);
  for (size_t i = 0; i < count && !step.stop.stop_requested(); ++i) {
    if (w.layers[i].layer.kind == VaeLayer::Kind::kResidual) {
      residual_block(flow, w.layers[i].residual, history.layers[i].residual);
    } else {
      upsample(flow, w.layers[i], history.layers[i].time, step.first);
    }
    flow.show_numbered("upsamples", i);
  }
}

}  // namespace

void prime_step(const VaeStep& step, const Tensor& z, size_t count) {
  const VaeHalfWeights& w = step.weights.decoder;
  VaeFlow flow(step);
  run_layers(flow, step, z, count);
  if (step.stop.stop_requested()) return;
  if (count == w.layers.size()) remember_head(flow, w, step.memory.history.head);
}

void decode_step(const VaeStep& step, const Tensor& z, const Tensor& frames) {
  const VaeHalfWeights& w = step.weights.decoder;
  VaeFlow flow(step);
  run_layers(flow, step, z, w.layers.size());
  if (step.stop.stop_requested()) return;
  head(flow, w, step.memory.history.head, frames);
  ops::clamp(step.backend, frames, -1, 1, frames);
}

}  // namespace liveavatar
