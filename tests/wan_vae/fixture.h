// The VAE of tests/goldens/vae (8 channels at full resolution) and small helpers.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "models/wan_vae/video.h"
#include "models/wan_vae/wan_vae.h"
#include "ops/layout.h"
#include "ops/make_backend.h"

namespace liveavatar {

// Planes of dimension 1 between [C, n, H, W] and [C, N, H, W] f32 of the host: target[:, begin...] = source, and back.
inline void copy_planes(const Tensor& source, const Tensor& target, const ops::FrameRange& frames) {
  auto backend = std::move(*make_backend("reference", {.threads = 1}));
  ops::copy_frames(*backend, source, target, frames);
}
inline void put_planes(const Tensor& source, const Tensor& target, int64_t begin) {
  copy_planes(source, target, {0, begin, source.dim(1)});
}
inline void get_planes(const Tensor& source, int64_t begin, const Tensor& target) {
  copy_planes(source, target, {begin, 0, target.dim(1)});
}

template <typename T>
T value_of(Expected<T> expected) {
  if (!expected.ok()) throw std::runtime_error(expected.status().message());
  return *std::move(expected);
}

inline std::unique_ptr<Backend> backend_on(const std::string& device, int threads) {
  BackendOptions options;
  options.threads = threads;
  return value_of(make_backend(device, options));
}

inline TensorSourcePtr golden_weights() {
  return value_of(open_safetensors(std::string(LA_SOURCE_DIR) + "/tests/goldens/vae/weights.safetensors"));
}

class WanVaeTest : public testing::Test {
 protected:
  std::unique_ptr<WanVae> load(DType dtype = DType::kF32) {
    return value_of(WanVae::load(*golden_weights(), *backend_, budget_, dtype));
  }

  OwnedTensor zeros(Shape shape, DType dtype = DType::kF32) {
    return value_of(OwnedTensor::allocate(budget_, MemoryCategory::kRuntime, shape, dtype));
  }

  // Smooth values in [-1, 1] that differ everywhere.
  OwnedTensor wave(Shape shape, float phase = 0) {
    OwnedTensor t = zeros(shape);
    for (int64_t i = 0; i < shape.elements(); ++i)
      t.tensor.host<float>()[i] = std::sin(0.37f * static_cast<float>(i % 9973) + phase);
    return t;
  }

  // pixels [3, F, H, W] in calls of these numbers of frames -> z [16, L, h, w].
  OwnedTensor encode(const WanVae& vae, const Tensor& pixels, const std::vector<int64_t>& calls) {
    int64_t height = pixels.dim(2), width = pixels.dim(3), frame = 0, latent = 0;
    auto stream = value_of(VaeEncodeStream::open(vae, budget_, height, width));
    OwnedTensor z = zeros({16, 1 + (pixels.dim(1) - 1) / 4, height / 8, width / 8});
    for (int64_t frames : calls) {
      OwnedTensor part = zeros({3, frames, height, width});
      get_planes(pixels, frame, part.tensor);
      OwnedTensor part_z = zeros({16, latents_of(*stream, frames), height / 8, width / 8});
      Status status = encode_frames(*stream, part.tensor, part_z.tensor, budget_);
      EXPECT_TRUE(status.ok()) << status.message();
      put_planes(part_z.tensor, z.tensor, latent);
      frame += frames;
      latent += part_z.tensor.dim(1);
    }
    return z;
  }

  // z [16, L, h, w] -> frames [4L - 3, 8h, 8w, 3].
  OwnedTensor decode(const WanVae& vae, const Tensor& z) {
    auto stream = value_of(VaeDecodeStream::open(vae, budget_, z.dim(2), z.dim(3)));
    OwnedTensor frames = zeros({frames_of(*stream, z.dim(1)), z.dim(2) * 8, z.dim(3) * 8, 3});
    Status status = decode_latents(*stream, z, frames.tensor, budget_);
    EXPECT_TRUE(status.ok()) << status.message();
    return frames;
  }

  static bool same_bits(const Tensor& a, const Tensor& b) {
    return a.shape == b.shape && a.dtype == b.dtype && std::memcmp(a.address(), b.address(), a.bytes()) == 0;
  }

  Budget budget_;
  std::unique_ptr<Backend> backend_ = backend_on("reference", 0);
};

}  // namespace liveavatar
