// Wan 2.1 causal video VAE, streaming: every causal convolution carries its last two input frames from call to call,
// so a video of any length is coded in the memory of one latent.
#pragma once

#include <memory>

#include "core/memory.h"
#include "models/wan_vae/config.h"
#include "models/wan_vae/weights.h"
#include "ops/backend.h"

namespace liveavatar {

class WanVae {
 public:
  // Loads and packs in dtype (kF32 or kBF16). backend and budget outlive the model.
  static Expected<std::unique_ptr<WanVae>> load(const TensorSource& source, Backend& backend, Budget& budget, DType dtype);

  const WanVaeConfig& config() const { return config_; }
  const VaeWeights& weights() const { return weights_; }
  Backend& backend() { return backend_; }
  Budget& budget() { return budget_; }
  DType dtype() const { return dtype_; }

 private:
  WanVae(Backend& backend, Budget& budget, DType dtype) : backend_(backend), budget_(budget), dtype_(dtype) {}
  WanVaeConfig config_;
  VaeWeights weights_;
  Backend& backend_;
  Budget& budget_;
  DType dtype_;
};

// Frames carried by the causal convolutions, in running order; zeros stand for the time before the video.
class CausalStates {
 public:
  // Takes the next state while laying out; `frames` is 2, or 1 where time is halved.
  void add(Arena& arena, int64_t frames, int64_t height, int64_t width, int64_t channels, DType dtype);
  void begin() { next_ = 0; }
  const Tensor& next() { return states_[next_++]; }

 private:
  std::vector<Tensor> states_;
  size_t next_ = 0;
};

// Three buffers that the blocks of one step play ping-pong with, and the middle attention's.
struct VaeWork {
  Tensor a, b, c;            // flat, in the activation dtype, each as large as the widest picture of a step
  Tensor q, k, v, attended;  // [h * w, widest channels]
  Tensor latent;             // f32 [1, h, w, z]
};

// The blocks that encoder and decoder share. x lies in work.a and the result does too.
class VaeBlocks {
 public:
  VaeBlocks(WanVae& vae, CausalStates& states, VaeWork& work) : vae_(vae), states_(states), work_(work) {}

  // x [F, H, W, I] -> out, both outside or in different buffers; carries the state of this convolution on.
  void causal_conv(const Tensor& x, const ConvWeight& w, const Tensor& out, const Epilogue& epilogue = {});
  Tensor res_block(const Tensor& x, const VaeResBlock& w);
  Tensor middle(const Tensor& x, const VaeMiddle& w);
  // A view of a buffer; asserts that it fits.
  static Tensor view(const Tensor& buffer, Shape shape);

 private:
  Tensor attention(const Tensor& x, const VaeAttention& w);
  WanVae& vae_;
  CausalStates& states_;
  VaeWork& work_;
};

// One video through the encoder. Not thread-safe. height and width are pixels, multiples of 8.
class VaeEncodeStream {
 public:
  static Expected<std::unique_ptr<VaeEncodeStream>> open(WanVae& vae, int64_t height, int64_t width);
  // Bytes of one stream; the layout that open() uses, measured.
  static size_t bytes(const WanVaeConfig& config, int64_t height, int64_t width, DType dtype);

  // pixels [3, F, H, W] f32 in [-1, 1], F = 1 in the first call and 4 afterwards -> z [16, 1, H / 8, W / 8] f32, normalised.
  void step(const Tensor& pixels, const Tensor& z);

 private:
  explicit VaeEncodeStream(WanVae& vae) : vae_(vae) {}
  void lay_out(const WanVaeConfig& config, int64_t height, int64_t width, DType dtype, Arena& arena);
  Tensor down(const Tensor& x, const VaeResample& w);

  WanVae& vae_;
  Arena arena_;
  CausalStates states_;
  VaeWork work_;
  int64_t height_ = 0, width_ = 0;
  bool first_ = true;
  friend struct VaeLayout;
};

// One video through the decoder. Not thread-safe.
class VaeDecodeStream {
 public:
  static Expected<std::unique_ptr<VaeDecodeStream>> open(WanVae& vae, int64_t latent_height, int64_t latent_width);
  static size_t bytes(const WanVaeConfig& config, int64_t latent_height, int64_t latent_width, DType dtype);

  // One latent [16, 1, h, w] f32 -> frames [>= n, 8 h, 8 w, 3] f32 clamped to [-1, 1]; returns n: 1 in the first call, then 4.
  int64_t step(const Tensor& z, const Tensor& frames);

 private:
  explicit VaeDecodeStream(WanVae& vae) : vae_(vae) {}
  void lay_out(const WanVaeConfig& config, int64_t height, int64_t width, DType dtype, Arena& arena);
  Tensor up(const Tensor& x, const VaeResample& w);

  WanVae& vae_;
  Arena arena_;
  CausalStates states_;
  VaeWork work_;
  int64_t height_ = 0, width_ = 0;  // latent
  bool first_ = true;
};

}  // namespace liveavatar
