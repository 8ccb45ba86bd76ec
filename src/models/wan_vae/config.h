// Shape of the Wan 2.1 causal video VAE: 4 x 8 x 8, 16 latent channels.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace liveavatar {

struct WanVaeConfig {
  int64_t dim = 96;    // width at full resolution; read from the tensors
  int64_t z_dim = 16;
  std::array<int64_t, 4> dim_mult{1, 2, 4, 4};
  int64_t res_blocks = 2;  // a stage of the encoder; the decoder has one more
  std::array<bool, 3> temporal_downsample{false, true, true};
  // Per-channel latent normalisation, published with the VAE: z = (mu - mean) / std.
  std::array<float, 16> mean{-0.7571f, -0.7089f, -0.9113f, 0.1075f, -0.1745f, 0.9653f, -0.1517f, 1.5508f,
                             0.4134f,  -0.0715f, 0.5517f,  -0.3632f, -0.1922f, -0.9497f, 0.2503f, -0.2921f};
  std::array<float, 16> std{2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f, 2.6052f, 2.0743f,
                            3.2687f, 2.1526f, 2.8652f, 1.5579f, 1.6382f, 1.1253f, 2.8251f, 1.916f};

  int64_t width(size_t stage) const { return dim * dim_mult[stage]; }
};

}  // namespace liveavatar
