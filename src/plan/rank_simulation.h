// How fast a video is on many ranks: the pipeline of docs/many_devices.md, event by event. No clock, no I/O: equal
// numbers in give equal numbers out. docs/many_devices_plan.md states the rules.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "session/job_shape.h"
#include "session/placement.h"

namespace liveavatar {

// Seconds of one forward on a rank that does all of it, by what the ranks of a stage make of it.
struct ForwardTimes {
  double whole_s = 0;         // computed on every rank
  double by_tokens_s = 0;     // products; attention to the prompt
  double by_heads_s = 0;      // self-attention
  double weights_s = 0;       // to read the weights, while it computes; every rank reads them all
  double dealt_s = 0;         // to read them from other ranks that have all of them; a rank has its own share
  double keys_values_s = 0;   // to read keys and values, by heads
  int64_t exchanges = 0;      // with the other ranks of the stage: two a layer
  double exchange_bytes = 0;  // queries, keys, values and the attention's output, of all tokens and layers

  // To read the weights where so many ranks sample.
  double reading_s(int sampling_ranks) const { return std::max(weights_s, dealt_s * (1 - 1 / double(sampling_ranks))); }
};

struct StageTimes {
  ForwardTimes step, prefill;
  int64_t heads = 1, tokens = 1;  // what ranks share: heads, and the tokens of a latent frame
  double condition_s = 0;         // a block, on the lead
  double decode_s = 0;            // a block
  bool decode_beside = false;     // decoding and sampling share the lead's device; else the lead does one at a time
  bool online_decode = true;      // else all is decoded at the end
  double block_bytes = 0, finished_bytes = 0, reference_bytes = 0;  // messages
};

// From one rank to another; it sends and receives at the same time.
struct Link {
  double bytes_per_s = 1, latency_s = 0;
  double seconds(double bytes) const { return latency_s + bytes / bytes_per_s; }
};

struct VideoBlocks {
  int64_t blocks = 1;
  int64_t clip_blocks = 4;  // of the first clip: behind it the sink is filled again
};

// What a rank does, in seconds of a block, and its shares of the whole run.
struct RankLoad {
  double sampling_s = 0, exchange_s = 0, condition_s = 0, decode_s = 0;
  double busy_share = 0;      // it computes
  double exchange_share = 0;  // it exchanges tokens for heads
  double waiting_share = 0;   // the rest
  double seconds() const { return sampling_s + exchange_s + condition_s + decode_s; }
};

// What takes the most time of a block.
struct RunLimit {
  enum class By { kSampling, kExchange, kConditioning, kDecoding, kLink };
  By by = By::kSampling;
  int rank = 0;
  int to_rank = 0;  // of a link
  // "rank 2: sampling", "the link from rank 0 to rank 1"
  std::string text() const;
};

struct RankSimulation {
  double seconds = 0;              // to the last frame
  double first_frame_s = 0;        // to the end of the first block's decoding
  double frames_per_s = 0;         // of the whole video
  double steady_frames_per_s = 0;  // long after the first clip; without online decode that of the whole video
  std::vector<RankLoad> ranks;
  RunLimit limit;
};
// From the moment at which every rank has the job, the prompt and the portrait's latents.
RankSimulation simulate_ranks(const Placement& placement, const VideoBlocks& video, const StageTimes& times,
                              const Link& link);

}  // namespace liveavatar
