// A session: the state of one video while the DiT makes it. Caches last for the video, activations for one forward.
// Each struct has one constructor that allocates from an Arena. A dry-run Arena gives its size, so the plan and the run
// cannot differ.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string_view>
#include <vector>

#include "backend/types.h"
#include "core/memory.h"
#include "models/s2v_dit/config.h"
#include "models/s2v_dit/head_exchange.h"
#include "models/s2v_dit/kv_cache.h"

namespace liveavatar {

// Keys and values of every layer, [tokens, D] in dtype. 8-bit values have a scale for each row and head.
struct LayerCache {
  std::vector<KeyValues> layers;
  LayerCache() = default;
  LayerCache(const DitConfig& config, int64_t tokens, DType dtype, Arena& arena);
};

// The audio of one block for one actor: the same for every denoising step.
struct AudioTokens {
  Tensor global, local;  // outputs of the audio encoder: f32 [3, D] after SiLU, [3 * 5, D]
  // For each audio cross-attention. The first forward that runs it fills them.
  std::vector<Modulation> adain;  // shift, scale f32 [3, D]
  std::vector<KeyValues> kv;      // K, V [3 * 5, D]
  std::vector<char> ready;
  AudioTokens(const DitConfig& config, const DitGeometry& geometry, DType dtype, Arena& arena);
};

// What a timestep becomes: the same in every block.
struct TimeRows {
  Tensor embedding, projection;    // f32 [1, D], [6, D]
  std::optional<double> timestep;  // that the rows are of
  bool projected = false;          // the next forward computes the projection
};

// The denoising steps of a video on this device. paged_kv: the caller sets their KV caches, which are not in memory.
struct DitSteps {
  int64_t count = 4;
  bool paged_kv = false;
  DitSteps(int64_t steps, bool paged = false) : count(steps), paged_kv(paged) {}  // NOLINT: a count is one
};

// State that lasts from block to block.
struct DitCaches {
  LayerCache sink;                      // attention sink: reference and motion, K before RoPE, own heads; for all steps
  Tensor prompt;                        // [text_len, D], embedded
  bool prompt_ready = true;             // else the next forward embeds it
  LayerCache text;                      // cross-attention K, V of the prompt [text_len, D]
  std::vector<char> text_ready;         // for each layer: whether the prompt's K, V are computed
  std::unique_ptr<KvCaches> kv;         // self-attention K, V of noisy tokens, for every denoising step
  std::vector<int64_t> filled_latents;  // for each step: the number of valid latents in its KV caches
  std::vector<AudioTokens> actors;
  std::vector<TimeRows> time;  // of each step, and of the sink
  DitCaches(const DitConfig& config, const DitGeometry& geometry, DitSteps steps, int64_t actor_count,
            const DitTypes& types, Arena& arena);
  // What forwards kept for later ones, of timesteps and the prompt, is computed again by the next.
  void forget_kept() {
    for (TimeRows& rows : time) rows.timestep.reset();
    prompt_ready = false;
    std::fill(text_ready.begin(), text_ready.end(), 0);
  }
  // The keys and values of all blocks are forgotten; the next block is the first again.
  void forget_blocks() { std::fill(filled_latents.begin(), filled_latents.end(), 0); }
};

// One noisy forward. All f32, valid until its end.
struct BlockInputs {
  Tensor latents;            // [16, 3, H, W]
  double timestep = 0;       // 0..1000
  int64_t step = 0;          // denoising step: selects the KV cache
  int64_t start_latent = 0;  // absolute, a multiple of block_latents
  int64_t relative_dist = 30;
  Tensor pose;  // optional [16, 3, H, W]
  // The block's audio for each actor. Empty: that of the caches. Blocks in flight at the same time have their own.
  std::span<AudioTokens> audio;
  // With several actors: [actors, 3, h, w], one value for each token: the weight of each actor's audio. Empty: 1.
  Tensor actor_masks;
};

// How many forwards are in flight, and how many actors each has.
struct DitLoad {
  int64_t in_flight = 1, actors = 1;
};

struct DitSession;

// The state of one forward in flight, from layer to layer. T = max(own_block_tokens, own_sink_tokens).
struct ForwardState {
  DitSession* session = nullptr;  // the video of this forward
  BlockInputs in;
  Tensor x;                              // f32 [T, D], the residual stream
  Tensor block_rope, sink_rope;          // f32 [block_tokens, d / 2, 2], [sink_tokens, d / 2, 2]
  TimeRows* time = nullptr;              // the session's
  std::span<AudioTokens> audio() const;  // of each actor: of the block, or the session's
  ForwardState(const DitConfig& config, const DitGeometry& geometry, Arena& arena);
};

// Buffers of the forwards in flight: the state of each, and scratch that they share.
struct DitActivations {
  std::vector<ForwardState> forwards;
  Tensor y;                                // [T, D], a norm's output: the next matrix's input
  Tensor q, k, v;                          // [T, D]
  Tensor attended;                         // [T, D]
  Tensor hidden;                           // [T, ffn]
  Tensor motion_part;                      // f32 [16, 16, H, W]
  Tensor patches;                          // f32 [T, widest patch]
  Tensor sink_k;                           // [sink_tokens, own heads * d], the sink's keys after RoPE
  Tensor audio_sum;                        // f32 [own block tokens, D], sum over actors
  Tensor actor_gate;                       // f32 [own block tokens, D], an actor's mask; only with several actors
  Tensor zero_pose;                        // f32 [C, 3, H, W]
  Tensor sinusoid, time_hidden, time_act;  // f32 [1, freq], [1, D] x 2
  Tensor modulation;                       // f32 [6, D]
  Tensor head_modulation;                  // f32 [2, D]
  Tensor head;                             // f32 [block tokens, 16 * 4]
  Tensor text_rows, text_hidden;           // [text_len, text_dim] f32, [text_len, D]
  // Audio encoder, f32; 85 columns in, 43, then 22 latent frames out; two rows of replicate padding in front of each.
  Tensor audio_mix, audio_1, audio_2, audio_3;
  Tensor audio_global;  // [3, D]
  // With several ranks for a step: of all tokens and this rank's heads, [max(block_tokens, sink_tokens), own heads *
  // d]; and the head's output for this rank's tokens, f32 [own_block_tokens, 16 * 4].
  struct Heads {
    Tensor q, k, v, attended;
  } heads;
  Tensor own_head;
  ExchangeBuffers exchange;
  DitActivations(const DitConfig& config, const DitGeometry& geometry, DType dtype, Arena& arena, DitLoad load = {});
};

// Receives intermediate tensors by name, in host memory, valid during the call.
using DitObserver = std::function<void(std::string_view name, const Tensor& value)>;

// One video. The model is constant: any number of sessions may share it, and forwards of several sessions may run a
// layer together. One thread at a time.
struct DitSession {
  DitGeometry geometry;
  DitCaches caches;
  DitActivations activations;
  // Of encode_text, encode_audio and noisy forwards: "text_embedding", "block.2", "block.2.ffn", "adain.0", "head", ...
  // For debugging: it costs extra matrix products. Empty in production.
  DitObserver observer;
  std::stop_token stop;                    // checked between layers; a stopped prefill leaves no valid result
  std::unique_ptr<HeadExchange> exchange;  // with several ranks for a step
  DitSession(const DitGeometry& g, DitCaches c, DitActivations a);
  DitSession(const DitSession&) = delete;
  DitSession& operator=(const DitSession&) = delete;
};

// The largest ops of a forward: attention over a full KV cache and the sink, or over the prompt; the FFN. And the
// linear layers over a block's tokens, which take the most time.
LargestOps largest_ops(const DitConfig& config, const DitGeometry& geometry, const DitTypes& types);

}  // namespace liveavatar
