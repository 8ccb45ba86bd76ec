// The numbers of a job: all that decides its memory and its order. pipeline/resolve.h makes them from files and
// options; the run and its plan read the same ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/rounding.h"
#include "liveavatar/types.h"
#include "media/image.h"
#include "models/s2v_dit/kv_cache.h"
#include "models/s2v_dit/state.h"
#include "session/model_shapes.h"
#include "session/placement.h"

namespace liveavatar {

constexpr int64_t kFps = 25;
constexpr int64_t kBlockFrames = 12;  // frames a block: 3 latents of 4 frames
constexpr int64_t kBlockLatents = 3;

// Frames a clip: infer_frames rounded up to whole blocks.
constexpr int64_t clip_frames(int64_t infer_frames) { return round_up(infer_frames, kBlockFrames); }

// Of a pose video; no sides: there is none.
struct PoseShape {
  int64_t video_height = 0, video_width = 0;
  WorkingSize size;  // of what is made
  Fit fit = Fit::kCover;
  bool empty() const { return video_height == 0; }
};

// How a live session hears (docs/live.md, which has what these were measured by).
struct LiveShape {
  int rate_hz = 0;             // of the sound that is pushed; 0: it is not a live session
  int64_t context_ms = 2000;   // heard before a block
  int64_t look_ahead_ms = 80;  // and behind it
  int64_t queue_ms = 30000;    // of sound that waits
  int64_t chunks = 6;          // of 4 frames that wait for the caller
  bool microphone = false;     // the sound comes at real time, by another clock
  bool changes = false;        // the prompt and the portrait may change while it runs
  bool live() const { return rate_hz > 0; }
};

struct JobShape {
  // The models, and how they are loaded.
  ModelShapes shapes;
  std::string device = "cpu";  // these as in EngineOptions
  ComputeType dtype = ComputeType::kBf16;
  WeightsType weights_dtype = WeightsType::kSameAsDtype;
  KvType kv_dtype = KvType::kSameAsDtype;
  bool int8_products = false;
  bool decode_beside = true;
  Tune tune = Tune::kAuto;
  PlacementRequest ranks;       // as the options say; placement follows
  int threads = 0;              // 0: as the engine would take
  int decode_threads = 0;       // decoding beside sampling, on so many of its own; 0: in turns, on the same
  bool packed = false;          // the video model's layers come in pages, from a packed file: they may stay there
  bool pack_first = false;      // that file is made before
  bool layers_in_host = false;  // or these pages are all in host memory beside the device, without a file
  size_t cache_bytes = 0;       // for prompts and portraits of earlier videos (ConditionCache)
  size_t merge_bytes = 0;       // in which adapters are merged while the video model's tensors are read

  // The video.
  int64_t height = 0, width = 0;              // pixels, multiples of 64
  int64_t image_height = 0, image_width = 0;  // of the portrait: its aspect decides smaller sizes
  size_t portrait_bytes = 0;                  // while it is read and fitted
  int64_t clip_frames = 48, blocks = 4;       // whole blocks a clip; blocks of the job
  int64_t voice_samples = 16000 * 60;         // at 16 kHz; up to a minute is heard at once
  std::vector<int64_t> more_voices;           // samples of the other speakers' voices
  PoseShape pose;
  int64_t first_mask_pixels = 0;  // of the largest mask image
  int64_t mask_pixels = 0;        // the same where masks move
  size_t orientation_bytes = 0;   // in which a HEIF portrait's turn is found, for masks across it
  int64_t prompt_tokens = 0;      // 0: as many as the model takes
  LiveShape live;

  // Sampling.
  int64_t steps = 4;           // denoising steps
  int64_t solver_tensors = 0;  // that a block's solver keeps, of a block's size
  bool online_decode = true;
  bool snapshots = false;  // are written as it runs
  Schedule schedule = Schedule::kAuto;
  Placement placement;         // on several ranks
  RankPart rank;               // this one's part
  bool one_host = false;       // all of them share this host's memory, and the weights in it
  bool processes = false;      // each of them is a process (MPI)
  bool shard_weights = false;  // the layers are dealt to the ranks that sample

  // Where weights, keys and values stay: on the device, of the others some in host memory beside it, the rest on disk.
  int64_t resident_layers = -1;     // of a packed model, on the device; -1: all
  int64_t host_layers = 0;          // in host memory
  bool disk_kv_caches = false;      // keys and values of steps that are not running may be on disk
  int64_t resident_kv_caches = -1;  // of steps times layers, on the device; -1: all, or open
  int64_t host_kv_caches = 0;       // in host memory
  bool shares_weights = false;      // the layers' weights in memory are another video's
  int64_t sessions = 1;             // videos that run layers together, with this one's weights
  bool video_model_only = false;    // no VAE, text, audio or video file: `bench`

  int64_t resident() const { return packed && resident_layers >= 0 ? resident_layers : shapes.dit.layers; }
  // Whether the device has memory of its own, and host memory for what does not fit there.
  bool beside_host_memory() const;
  bool paged() const { return resident() < shapes.dit.layers; }
  Residency layers() const { return {resident(), host_layers}; }
  // Layers that come to the device from host memory.
  int64_t layers_beside() const { return layers_in_host ? shapes.dit.layers - resident() : host_layers; }
  DitTypes types() const;
  // Of the weights, and of keys and values: the texts of what kSameAsDtype comes to.
  const char* weights_name() const;
  const char* kv_name() const;
  KvCacheShape kv_caches() const;  // in the type of kv_dtype
  bool kv_caches_paged() const { return kv_caches().paged(); }

  // Blocks that are denoised side by side. The first clip ends before the sink is renewed, so blocks of two sides of
  // that moment never meet.
  int64_t blocks_in_flight() const;
  // Whether a block is decoded while others are sampled.
  bool decodes_beside() const;
  // Blocks of latents that are held: those in flight, and the one that is decoded beside them; or all of them without
  // online decode.
  int64_t blocks_kept() const { return online_decode ? blocks_in_flight() + (decodes_beside() ? 1 : 0) : blocks; }
  int64_t actors() const { return 1 + static_cast<int64_t>(more_voices.size()); }
  int64_t clip_blocks() const { return clip_frames / kBlockFrames; }
  int64_t clip_latents() const { return clip_blocks() * kBlockLatents; }
  // Whether its models have the video model: on one host it is there for all ranks.
  bool has_video_model() const { return rank.samples || one_host; }
  // This rank's layers.
  RankShare shard() const { return shard_weights && rank.samples ? rank.weights : RankShare(); }
  // Steps of this rank.
  StepRange own_steps() const { return rank.steps.count == 0 ? StepRange{0, steps} : rank.steps; }
  DitGeometry geometry() const {
    return {height / kVaePixels, width / kVaePixels, clip_latents(), kBlockLatents, rank.share};
  }
  DitLoad load() const { return {blocks_in_flight(), actors()}; }
};

// One rank's part of a job. whole: as the lead resolved it. Ranks other than the lead have the video model alone.
JobShape rank_shape(const JobShape& whole, const Placement& placement, int rank);
// What the types say together; kSameAsDtype follows dtype.
DitTypes dit_types(ComputeType dtype, WeightsType weights_dtype, KvType kv_dtype = KvType::kSameAsDtype);
// 8-bit products want 8-bit weights.
Status check_int8_products(bool int8_products, WeightsType weights_dtype);

}  // namespace liveavatar
