// Blocks that the encoder and the decoder share. Values are [F, H, W, C] in the activations' dtype.
#pragma once

#include <functional>
#include <stop_token>
#include <string>

#include "models/wan_vae/memory.h"
#include "models/wan_vae/weights.h"
#include "ops/transfer.h"

namespace liveavatar {

// Receives every module's output with the module's name in its half: "conv1", "downsamples.3", "middle.1", "head".
// [F, H, W, C] in host memory, valid only during the call.
using VaeObserver = std::function<void(const char* name, const Tensor& value)>;

// The inputs of one step of one stream.
struct VaeStep {
  Backend& backend;
  const WanVaeWeights& weights;
  const VaeMemory& memory;
  bool first;           // the first step of a video: one frame, time is not resampled
  bool at_fixed_point;  // all frames, also the earlier ones, are one static image: caches are filled from x's first
                        // frame
  const VaeObserver& observer;
  const std::stop_token& stop;  // checked between layers; a stopped step leaves no valid result
};

// The current value x in one of three scratch buffers; the other two are free.
class VaeContext {
 public:
  explicit VaeContext(const VaeStep& step) : step_(step), scratch_(step.memory.scratch) {}

  Backend& backend() const { return step_.backend; }
  const Tensor& x() const { return x_; }
  // A tensor in free buffer `which` (0 or 1). Its old content is lost. It fits: the allocation saw the same shapes.
  Tensor scratch(int which, const Shape& shape) const { return scratch(which, shape, scratch_.dtype); }
  Tensor scratch(int which, const Shape& shape, DType dtype) const;
  // x becomes a tensor from scratch(which, ...). The buffer of the old x becomes free.
  void swap_in(int which, const Tensor& value);
  // At the fixed point: fills a convolution's cache with x's first frame.
  void fixed_point(const Tensor& x, const Tensor& cache) const;
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

// Pushes x's frames into the causal cache, which keeps the last frames.
void push_cache(Backend& backend, const Tensor& x, const Tensor& cache);

// Causal same-size convolution: x [F, H, W, I] -> out [F, H, W, O]. Pushes x into the cache.
void causal_conv(VaeContext& context, const Tensor& x, const ConvWeight& w, const Tensor& cache, const Tensor& out,
                 const Tensor& residual = {});

// x <- causal_conv(x).
void conv_step(VaeContext& context, const ConvWeight& w, const Tensor& cache);
// x <- shortcut(x) + conv2(silu(norm(conv1(silu(norm(x)))))).
void residual_block(VaeContext& context, const ResidualWeights& w, const ResidualCache& cache);
// Two residual blocks with one head of attention over the H * W tokens of each frame between them.
void middle_blocks(VaeContext& context, const VaeHalfWeights& w, const VaeCausalCache& cache);
// conv(silu(norm(x))) -> out [F, H, W, O]. x is not changed. Overwrites free buffer 0.
void head(VaeContext& context, const VaeHalfWeights& w, const Tensor& cache, const Tensor& out);
// Only the cache push of head().
void push_head_cache(VaeContext& context, const VaeHalfWeights& w, const Tensor& cache);

}  // namespace liveavatar
