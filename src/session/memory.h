// What a job holds, apart from weights and what the models themselves allocate: allocated here for the pipeline, and
// over a dry-run Budget for the plan.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/rounding.h"
#include "media/image.h"
#include "models/s2v_dit/state.h"
#include "models/wan_vae/config.h"
#include "session/job_shape.h"

namespace liveavatar {

// Code and data of the program and its libraries (up to 30.4 MiB touched by a run without media), small objects, some
// 10 KiB a thread, and 1 MiB that jobs leave in heaps of other libraries. Charged to MemoryCategory::kRuntime when an
// engine is loaded, so that the budget is that of the whole process (docs/plan.md: how it was measured).
constexpr size_t kProgramBytes = size_t{67} << 19;  // 33.5 MiB
// And of Open MPI in a rank that is a process: 6 to 8 MiB with two to five ranks.
constexpr size_t kMpiBytes = size_t{8} << 20;

// The H.264 and AAC encoders beside a job, their frames in flight and the muxer: a fit to runs (docs/plan.md).
size_t video_writer_bytes(int64_t height, int64_t width);
// And of a job that writes snapshots: the thread that finishes them, what tells the job from others, the encoders that
// follow one another; beside a card a part of a tensor on its way. Up to 1.7 MiB were measured on the CPU.
size_t snapshot_run_bytes(bool beside_card);

// Denoising: scratch of the largest attention, caches, activations of the forwards in flight.
struct SamplerMemory {
  Arena cache_arena, activation_arena;
  PageMemory kv_cache_pages;  // of a dry run; else the KV caches have it
  std::unique_ptr<DitSession> session;
  std::vector<AudioTokens> audio_tokens;  // of the blocks in flight, an actor each
  OwnedTensor velocity;                   // [16, 3, h, w] f32
  // [in_flight * solver_tensors, 16, 3, h, w] f32 in host memory, grouped by block in flight
  OwnedTensor solver_history;
  static Expected<SamplerMemory> allocate(const JobShape& shape, const std::string& kv_cache_folder, Backend& backend,
                                          Budget& budget);
};

// Decoded frames of one latent, beside the VAE's stream.
struct DecoderMemory {
  OwnedTensor latent;    // [16, 1, h, w] f32
  OwnedTensor pixels;    // [4, H, W, 3] f32
  OwnedTensor rgb;       // [4, H, W, 3] u8
  OwnedTensor host_rgb;  // the same for the host; empty where the device is the host
  static Expected<DecoderMemory> allocate(int64_t channels, int64_t latent_height, int64_t latent_width,
                                          Budget& budget);
};

// A pose video's frames on their way to latents, beside the VAE's stream.
struct PoseMemory {
  Charge video;        // the decoder, a frame as RGB and half resized
  OwnedTensor frame;   // [3, H, W] f32
  OwnedTensor pixels;  // [3, 4, H, W] f32
  OwnedTensor latent;  // [16, 1, h, w] f32
  static Expected<PoseMemory> allocate(const PoseShape& shape, int64_t channels, Budget& budget);
};

// What a denoiser needs of a block. features [actors, layers, audio_dim, 12] f32 are used at once. The others are the
// channel's until it is sent, one of each a block in flight: latents [16, 3, h, w] f32 are noise (or come from the
// steps before), and become what is sent; actor_masks [actors, 3, rows, columns] f32 with several actors; pose [16, 3,
// h, w] f32 of a pose video.
struct BlockStart {
  Tensor features, latents, actor_masks, pose;
};

// Conditioning of the blocks.
struct BlockMemory {
  OwnedTensor reference;             // [16, 1, h, w] f32
  std::vector<OwnedTensor> latents;  // [16, 3, h, w] f32 each; none over a dry-run budget
  Charge measured_latents;           // these, there
  OwnedTensor features;              // [actors, layers, audio_dim, 12] f32, of the host
  std::vector<OwnedTensor> masks;    // with several actors, of the blocks in flight: [actors, 3, rows, columns] f32
  Charge mask_image;
  std::vector<OwnedTensor> poses;  // with a pose video, of the blocks in flight: [16, 3, h, w] f32
  static Expected<BlockMemory> allocate(const JobShape& shape, Budget& budget);
  BlockStart start(int64_t block) const;  // the block's places
};

// What goes to other ranks and comes from them, in host memory (session/block_link.h). Empty without others.
struct LinkMemory {
  std::vector<Buffer> outboxes;  // blocks for the next stage: those in flight, and one that is not taken yet
  std::vector<Buffer> starts;    // of the lead: a block for the other ranks of the first stage
  Buffer inbox;                  // a block from the stage before
  Buffer finished_host;          // latents for the lead, or from the last stage
  OwnedTensor finished;          // of the lead: [16, 3, h, w] f32, on the device
  static Expected<LinkMemory> allocate(const JobShape& shape, Budget& budget);
};

}  // namespace liveavatar
