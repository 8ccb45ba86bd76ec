// A session: what one video holds while the DiT makes it. Caches live long, activations for one forward. Each is laid
// out by one constructor over an Arena; a dry-run Arena gives its size, so the plan and the run cannot differ.
#pragma once

#include <functional>
#include <span>
#include <stop_token>
#include <string_view>
#include <vector>

#include "backend/types.h"
#include "core/memory.h"
#include "models/s2v_dit/config.h"
#include "models/s2v_dit/rings.h"

namespace liveavatar {

// Keys and values of every layer, [tokens, D] in dtype; 8-bit ones with a scale for each row and head.
struct LayerCache {
  std::vector<KeyValues> layers;
  LayerCache() = default;
  LayerCache(const DitConfig& config, int64_t tokens, DType dtype, Arena& arena);
};

// What the sound of one block becomes, for one actor: the same for every denoising step.
struct AudioTokens {
  Tensor global, local;             // f32 [3, D] after SiLU, [3 * 5, D]: the audio encoder's
  std::vector<Modulation> adain;    // an injector each: shift, scale f32 [3, D]
  std::vector<KeyValues> injected;  // an injector each: K, V [3 * 5, D]
  std::vector<char> ready;          // an injector each: made by the first forward that comes by its weights
  AudioTokens(const DitConfig& config, const DitGeometry& geometry, DType dtype, Arena& arena);
};

// Everything that stays from block to block.
struct DitCaches {
  LayerCache cond;                      // reference + motion, K before RoPE; one for all steps
  Tensor prompt;                        // [text_len, D], embedded
  LayerCache text;                      // cross-attention K, V of the prompt [text_len, D]
  std::vector<char> text_ready;         // a layer each: made by the first forward that comes by its weights
  std::unique_ptr<Rings> rings;         // noisy tokens of every denoising step
  std::vector<int64_t> filled_latents;  // a step each: its rings are valid from the first latent's place to here
  std::vector<AudioTokens> actors;
  // With rings in memory; steps = 0: somebody puts others there.
  DitCaches(const DitConfig& config, const DitGeometry& geometry, int64_t steps, int64_t actor_count,
            const DitTypes& types, Arena& arena);
  void put_rings(std::unique_ptr<Rings> others, int64_t steps);
};

// One noisy forward. All f32, valid until its end.
struct BlockInputs {
  Tensor latents;            // [16, 3, H, W]
  double timestep = 0;       // 0..1000
  int64_t step = 0;          // which ring
  int64_t start_latent = 0;  // absolute, a multiple of block_latents
  int64_t relative_dist = 30;
  Tensor pose;  // optional [16, 3, H, W]
  // The block's sound, an actor each; empty: that of the caches. Blocks in flight together bring their own.
  std::span<AudioTokens> sound;
  // With several actors: [actors, 3, h, w], one value a token, the share of each actor's sound; empty: all of it.
  Tensor actor_masks;
};

// What runs together: forwards in flight, and actors in each.
struct DitLoad {
  int64_t in_flight = 1, actors = 1;
};

struct DitSession;

// What a forward keeps from layer to layer. T = the larger of block and cond tokens.
struct DitFlight {
  DitSession* session = nullptr;  // whose forward it is
  BlockInputs in;
  Tensor x;                        // f32 [T, D], the residual stream
  Tensor block_turns, cond_turns;  // f32 [block tokens, d / 2, 2], [cond tokens, d / 2, 2]
  Tensor time, time_projected;     // f32 [1, D], [6, D]
  DitFlight(const DitConfig& config, const DitGeometry& geometry, Arena& arena);
};

// Buffers of the forwards in flight: what each keeps, and scratch that they use in turn.
struct DitActivations {
  std::vector<DitFlight> flights;
  Tensor y;                                // [T, D], a norm's output: the next matrix's input
  Tensor q, k, v;                          // [T, D]
  Tensor attended;                         // [T, D]
  Tensor hidden;                           // [T, ffn]
  Tensor motion_part;                      // f32 [16, 16, H, W]
  Tensor patches;                          // f32 [T, widest patch]
  Tensor cond_k;                           // [cond tokens, D], cond keys after RoPE
  Tensor injected;                         // f32 [block tokens, D], sum over actors
  Tensor actor_gate;                       // f32 [block tokens, D], an actor's mask; with several actors
  Tensor zero_pose;                        // f32 [C, 3, H, W]
  Tensor sinusoid, time_hidden, time_act;  // f32 [1, freq], [1, D] x 2
  Tensor modulation;                       // f32 [6, D]
  Tensor head_modulation;                  // f32 [2, D]
  Tensor head;                             // f32 [block tokens, 16 * 4]
  Tensor text_rows, text_hidden;           // [text_len, text_dim] f32, [text_len, D]
  // Audio encoder, f32; 85 columns in, 43, then 22 latent frames out; two rows of replicate padding in front of each.
  Tensor audio_mix, audio_1, audio_2, audio_3;
  Tensor audio_global;  // [3, D]
  DitActivations(const DitConfig& config, const DitGeometry& geometry, DType dtype, Arena& arena, DitLoad load = {});
};

// Sees intermediate tensors by name, in host memory, valid during the call.
using DitObserver = std::function<void(std::string_view name, const Tensor& value)>;

// One video. The model itself is constant: any number of sessions may share it, and forwards of several may go through
// a layer together. One thread at a time.
struct DitSession {
  DitGeometry geometry;
  DitCaches caches;
  DitActivations activations;
  // Of encode_text, encode_audio and noisy forwards: "text_embedding", "block.2", "block.2.ffn", "adain.0", "head", ...
  // For finding faults: it costs products. Empty in production.
  DitObserver observer;
  std::stop_token stop;  // heard between layers: what a prefill leaves then is nothing
  DitSession(const DitGeometry& g, DitCaches c, DitActivations a);
  DitSession(const DitSession&) = delete;
  DitSession& operator=(const DitSession&) = delete;
};

// The largest of a forward: attention over all of a ring and the sink, or over the prompt; the FFN.
LargestOps largest_ops(const DitConfig& config, const DitGeometry& geometry, DType dtype);

}  // namespace liveavatar
