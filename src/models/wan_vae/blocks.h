// The parts that encoder and decoder share. Values are [F, H, W, C] in the activations' dtype.
#pragma once

#include <functional>
#include <stop_token>
#include <string>

#include "models/wan_vae/memory.h"
#include "models/wan_vae/weights.h"
#include "ops/transfer.h"

namespace liveavatar {

// Shown every module's output, under the module's name without its half: "conv1", "downsamples.3", "middle.1", "head".
// [F, H, W, C] in host memory, valid during the call only.
using VaeObserver = std::function<void(const char* name, const Tensor& value)>;

// One step of one stream: what it works with.
struct VaeStep {
  Backend& backend;
  const WanVaeWeights& weights;
  const VaeMemory& memory;
  bool first;    // of its video: one frame, and time is not resampled
  bool settled;  // all frames are one picture, and so was the past: it is taken from the step's own first frame
  const VaeObserver& observer;
  const std::stop_token& stop;  // heard between layers: what the step leaves then is nothing
};

// The value that runs through the layers, in one piece of scratch, and the two pieces beside it.
class VaeFlow {
 public:
  explicit VaeFlow(const VaeStep& step) : step_(step), scratch_(step.memory.scratch) {}

  Backend& backend() const { return step_.backend; }
  const Tensor& x() const { return x_; }
  // A tensor in free piece `which` (0 or 1), over whatever was there. Fits: the layout saw the same shapes.
  Tensor side(int which, const Shape& shape) const { return side(which, shape, scratch_.dtype); }
  Tensor side(int which, const Shape& shape, DType dtype) const;
  // x becomes a tensor got from side(which, ...); the piece of the old x is free.
  void become(int which, const Tensor& value);
  // What a convolution remembers in front of x: in a settled step, x's first frame.
  void settle(const Tensor& x, const Tensor& history) const;
  void show(const char* name) const { show(name, x_); }
  void show(const char* name, const Tensor& value) const {
    if (step_.observer) step_.observer(name, Download(step_.backend, value).tensor());
  }
  void show_numbered(const char* name, size_t number) const {
    if (step_.observer) show((std::string(name) + "." + std::to_string(number)).c_str(), x_);
  }

 private:
  const VaeStep& step_;
  const VaeScratch& scratch_;
  Tensor x_;
  int at_ = 0;
};

// history <- its own and x's last frames.
void remember(Backend& backend, const Tensor& x, const Tensor& history);

// Same-size convolution that looks back in time: x [F, H, W, I] -> out [F, H, W, O]; history moves on behind x.
void causal_conv(VaeFlow& flow, const Tensor& x, const ConvWeight& w, const Tensor& history, const Tensor& out,
                 const Tensor& residual = {});

// x <- causal_conv(x).
void conv_step(VaeFlow& flow, const ConvWeight& w, const Tensor& history);
// x <- shortcut(x) + conv2(silu(norm(conv1(silu(norm(x)))))).
void residual_block(VaeFlow& flow, const ResidualWeights& w, const ResidualHistory& history);
// Two residual blocks with one head of attention over the H * W tokens of each frame between them.
void middle_blocks(VaeFlow& flow, const VaeHalfWeights& w, const VaeHistory& history);
// conv(silu(norm(x))) -> out [F, H, W, O]. x stays. Overwrites free piece 0.
void head(VaeFlow& flow, const VaeHalfWeights& w, const Tensor& history, const Tensor& out);
// Only what head() would remember.
void remember_head(VaeFlow& flow, const VaeHalfWeights& w, const Tensor& history);

}  // namespace liveavatar
