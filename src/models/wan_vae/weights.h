// Weights of the VAE: packed convolutions and f32 gains, in running order.
#pragma once

#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "models/wan_vae/config.h"
#include "weights/loader.h"

namespace liveavatar {

struct ResidualWeights {
  Tensor gain1, gain2;      // [in], [out]
  ConvWeight conv1, conv2;  // (3, 3, 3): in -> out -> out
  ConvWeight shortcut;      // (1, 1, 1): in -> out; no data where in == out
};

struct AttentionWeights {
  Tensor gain;               // [C]
  ConvWeight q, k, v, proj;  // (1, 1, 1): C -> C
};

struct ResampleWeights {
  ConvWeight spatial;  // (1, 3, 3): in -> out
  // (3, 1, 1). Down: out -> out, `time` alone. Up: in -> in, `time` makes the even frames and `time_odd` the odd ones.
  ConvWeight time, time_odd;
};

// One of residual and resample, as layer.kind says.
struct VaeLayerWeights {
  VaeLayer layer;
  ResidualWeights residual;
  ResampleWeights resample;
};

// The encoder or the decoder.
struct VaeHalfWeights {
  ConvWeight conv1;
  std::vector<VaeLayerWeights> layers;
  ResidualWeights middle0, middle2;
  AttentionWeights attention;
  Tensor head_gain;
  ConvWeight head;
};

struct WanVaeWeights {
  VaeHalfWeights encoder, decoder;
  ConvWeight to_mean;      // (1, 1, 1): 2z -> z, the mean half of the original's conv1
  ConvWeight from_latent;  // (1, 1, 1): z -> z, the original's conv2
  // [z] f32: latent = raw * to_scale + to_shift; raw = latent * from_scale + from_shift.
  Tensor to_scale, to_shift, from_scale, from_shift;
  std::vector<Buffer> buffers;  // where all of it lies
};

// Takes every tensor by the original's name. A missing, misshaped or not finite tensor is named in the error.
Expected<WanVaeWeights> load_vae_weights(const WanVaeConfig& config, WeightAllocator& loader);

}  // namespace liveavatar
