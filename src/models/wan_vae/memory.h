// What one stream holds: the past that every causal convolution carries, and scratch for one step.
#pragma once

#include <array>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "models/wan_vae/config.h"

namespace liveavatar {

// The last input frames of convolutions, [2, H, W, C] ([1, H, W, C] of a time convolution that downsamples). Zeros at
// the start of a video are the same as the original's zero padding.
struct ResidualHistory {
  Tensor conv1, conv2;
};

struct VaeLayerHistory {
  ResidualHistory residual;
  Tensor time;
};

struct VaeHistory {
  Tensor conv1;
  std::vector<VaeLayerHistory> layers;
  ResidualHistory middle0, middle2;
  Tensor head;
};

// Three equal pieces: a layer reads one, writes another and has the third for what lies between.
struct VaeScratch {
  std::array<Tensor, 3> pieces;  // u8, flat
  size_t piece_bytes = 0;
  DType dtype = DType::kF32;  // of activations
};

struct VaeMemory {
  VaeHistory history;
  VaeScratch scratch;
  LargestOps ops;  // that a step asks for
};

// Of a stream in steady state, in this order on the arena; with a dry-run arena: its size. dtype: of activations and
// history. height and width are of what comes in: pixels, respectively latents.
VaeMemory lay_out_encoder(const WanVaeConfig& config, int64_t height, int64_t width, DType dtype, Arena& arena);
VaeMemory lay_out_decoder(const WanVaeConfig& config, int64_t latent_height, int64_t latent_width, DType dtype,
                          Arena& arena);

// The past of a video that begins.
void clear(Backend& backend, const VaeHistory& history);

struct VaeInput {
  int64_t height = 0, width = 0;  // of what comes in: pixels, respectively latents
  DType dtype = DType::kF32;
};
size_t encode_stream_bytes(const WanVaeConfig& config, const VaeInput& in);
size_t decode_stream_bytes(const WanVaeConfig& config, const VaeInput& in);
// The memory of one stream, charged to MemoryCategory::kVae, and the backend's scratch for it.
Expected<Arena> allocate_encoder(const WanVaeConfig& config, const VaeInput& in, Backend& backend, Budget& budget);
Expected<Arena> allocate_decoder(const WanVaeConfig& config, const VaeInput& in, Backend& backend, Budget& budget);

}  // namespace liveavatar
