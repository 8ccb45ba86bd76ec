// States and buffers of a stream, laid out in the order in which a step runs; the same function measures and allocates.
#pragma once

#include "models/wan_vae/wan_vae.h"

namespace liveavatar {

class VaeLayout {
 public:
  VaeLayout(const WanVaeConfig& config, DType dtype, Arena& arena, CausalStates& states)
      : config_(config), dtype_(dtype), arena_(arena), states_(states) {}

  // A causal 3x3x3 (or time) convolution's two frames.
  void conv(int64_t height, int64_t width, int64_t channels) { states_.add(arena_, 2, height, width, channels, dtype_); }
  // The one frame that a halving time convolution keeps.
  void time_down(int64_t height, int64_t width, int64_t channels) { states_.add(arena_, 1, height, width, channels, dtype_); }
  void res_block(int64_t height, int64_t width, int64_t in, int64_t out) {
    conv(height, width, in);
    conv(height, width, out);
    picture(4, height, width, std::max(in, out));
  }
  // Notes a picture that must fit one of the ping-pong buffers.
  void picture(int64_t frames, int64_t height, int64_t width, int64_t channels) {
    widest_ = std::max(widest_, frames * height * width * channels);
  }
  VaeWork work(int64_t latent_height, int64_t latent_width) {
    int64_t pixels = latent_height * latent_width, channels = config_.width(3);
    VaeWork w;
    w.a = arena_.tensor({widest_}, dtype_);
    w.b = arena_.tensor({widest_}, dtype_);
    w.c = arena_.tensor({widest_}, dtype_);
    w.q = arena_.tensor({pixels * channels}, dtype_);
    w.k = arena_.tensor({pixels * channels}, dtype_);
    w.v = arena_.tensor({pixels * channels}, dtype_);
    w.attended = arena_.tensor({pixels * channels}, dtype_);
    w.latent = arena_.tensor({1, latent_height, latent_width, config_.z_dim}, DType::kF32);
    return w;
  }

 private:
  const WanVaeConfig& config_;
  DType dtype_;
  Arena& arena_;
  CausalStates& states_;
  int64_t widest_ = 0;
};

}  // namespace liveavatar
