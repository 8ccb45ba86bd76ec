// The memory of one stream: the causal caches of its convolutions, and scratch for one step.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "core/state_visitor.h"
#include "models/wan_vae/config.h"

namespace liveavatar {

// Causal conv caches (feat_cache in the original): the last input frames of a convolution, [2, H, W, C] ([1, H, W, C]
// for a downsampling time convolution). Zeros at the start of a video equal the original's zero padding.
struct ResidualCache {
  Tensor conv1, conv2;
};

struct VaeLayerCache {
  ResidualCache residual;
  Tensor time;
};

struct VaeCausalCache {
  Tensor conv1;
  std::vector<VaeLayerCache> layers;
  ResidualCache middle0, middle2;
  Tensor head;
};

// Three buffers of equal size: a layer reads one, writes another and uses the third for intermediate values.
struct VaeScratch {
  std::array<Tensor, 3> buffers;  // u8, flat
  size_t buffer_bytes = 0;
  DType dtype = DType::kF32;  // of activations
};

struct VaeMemory {
  VaeCausalCache cache;
  VaeScratch scratch;
  LargestOps ops;  // of a step
};

// Allocates the memory of a stream after its first step from the arena. dtype: of activations and caches. height and
// width are of the input: pixels for the encoder, latents for the decoder.
VaeMemory encoder_memory(const WanVaeConfig& config, int64_t height, int64_t width, DType dtype, Arena& arena);
VaeMemory decoder_memory(const WanVaeConfig& config, int64_t latent_height, int64_t latent_width, DType dtype,
                         Arena& arena);

// Shows every cache to the visitor.
Status visit(const VaeCausalCache& cache, StateVisitor& visitor);
// Clears the caches for a new video.
void clear(Backend& backend, const VaeCausalCache& cache);

struct VaeInput {
  int64_t height = 0, width = 0;  // of the input: pixels for the encoder, latents for the decoder
  DType dtype = DType::kF32;
};
size_t encode_stream_bytes(const WanVaeConfig& config, const VaeInput& in);
size_t decode_stream_bytes(const WanVaeConfig& config, const VaeInput& in);
size_t decode_cache_bytes(const WanVaeConfig& config, const VaeInput& in);  // of it the caches
struct EndOfHotConvs {
  void operator()(Backend* backend) const { backend->end_hot_convs(); }
};
struct VaeStreamMemory {
  std::unique_ptr<Backend, EndOfHotConvs> convs;  // the backend, which has scratch for the stream's convolutions
  Arena arena;                                    // charged to MemoryCategory::kVae
};
Expected<VaeStreamMemory> allocate_encoder(const WanVaeConfig& config, const VaeInput& in, Backend& backend,
                                           Budget& budget);
Expected<VaeStreamMemory> allocate_decoder(const WanVaeConfig& config, const VaeInput& in, Backend& backend,
                                           Budget& budget);

}  // namespace liveavatar
