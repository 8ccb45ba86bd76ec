// What a job will hold, before any weight is read: the engine's own allocations, in the order of a run, over a budget
// that only counts.
#pragma once

#include <string>
#include <vector>

#include "core/memory.h"
#include "plan/job_memory.h"
#include "plan/model_shapes.h"

namespace liveavatar {

// All that decides the memory of a job.
struct PlanRequest {
  ModelShapes shapes;
  std::string device = "cpu", dtype = "bf16", weights_dtype, kv_dtype;  // these as in EngineOptions
  bool int8_products = false;
  int threads = 0;                                // 0: as the engine would take
  int64_t height = 0, width = 0;                  // pixels of the video, multiples of 64
  int64_t picture_height = 0, picture_width = 0;  // of the portrait: its aspect decides smaller sizes
  size_t portrait_bytes = 0;                      // while it is read and fitted
  int64_t clip_frames = 48, blocks = 4;           // whole blocks a clip; blocks of the job
  int64_t steps = 4;                              // denoising steps
  int64_t solver_tensors = 0;                     // that a block's solver keeps, of a block's size
  int64_t voice_samples = 16000 * 60;             // at 16 kHz; up to a minute is heard at once
  std::vector<int64_t> more_voices;               // samples of the other speakers' voices
  PoseShape pose;                                 // of a pose video
  int64_t first_mask_pixels = 0;                  // of the largest mask picture
  int64_t mask_pixels = 0;                        // the same where masks move
  size_t orientation_bytes = 0;                   // in which a HEIF portrait's turn is found, for masks across it
  int64_t prompt_tokens = 0;                      // 0: as many as the model takes
  bool online_decode = true;
  std::string schedule = "auto";  // "sequential", "wavefront", "auto"
  bool packed = false;            // the video model comes from a packed file: its layers may stay on disk
  bool pack_first = false;        // that file is made before
  size_t merge_bytes = 0;         // in which adapters are merged while the video model's tensors are read
  int64_t resident_layers = -1;   // of a packed one, in memory; -1: all
  bool disk_rings = false;        // keys and values of steps that are not running may be on disk
  int64_t resident_rings = -1;    // of steps times layers, in memory; -1: all, or open where disk_rings
  bool video_model_only = false;  // no VAE, text, sound or video file: `bench`

  int64_t resident() const { return packed && resident_layers >= 0 ? resident_layers : shapes.dit.layers; }
  bool paged() const { return resident() < shapes.dit.layers; }
  RingShape rings() const;  // in the type of --kv_dtype
  bool rings_paged() const { return rings().paged(); }

  // Blocks that are denoised side by side. The first clip ends before the sink is renewed, so blocks of two sides of
  // that moment never meet.
  int64_t blocks_in_flight() const;
  int64_t actors() const { return 1 + static_cast<int64_t>(more_voices.size()); }
  BlocksHeld blocks_held() const {
    return {online_decode ? blocks_in_flight() : blocks, blocks_in_flight(), actors(), !pose.empty(), mask_pixels};
  }
  DitGeometry geometry() const { return {height / 8, width / 8, clip_frames / 4, kBlockLatents}; }
};

// What is held at one stage of a run: the highest moment of it, and what stays when it is over.
struct PlanStage {
  std::string name;  // "load", "portrait", "text", "image", "run"
  size_t peak_bytes = 0, after_bytes = 0;
};

struct MemoryPlan {
  size_t peak_bytes = 0;    // highest of the whole run
  size_t steady_bytes = 0;  // while blocks are made
  size_t load_peak_bytes = 0;
  size_t paged_bytes = 0;  // of weights, read from disk whenever forwards go through the layers
  // Of keys and values on disk: so much a block moves once rings are full, three of four slots in and one out.
  size_t ring_bytes = 0;
  TenantBytes peak_by_tenant{}, steady_by_tenant{};
  bool int8_products = false;  // asked for, and this machine can
  std::vector<PlanStage> stages;
};

// Error: the device or dtype is unknown.
Expected<MemoryPlan> plan_memory(const PlanRequest& request);

// Decides what a request leaves open: the schedule, and how many layers of a packed model and how many rings stay in
// memory: as many as the budget (0: none) has room for. What fits in no way comes back at its leanest.
Expected<PlanRequest> settle(const PlanRequest& request, size_t budget_bytes);

Expected<DType> parse_dtype_flag(const std::string& dtype);  // "bf16", "f32"
// What the flags of the types say together; empty ones follow dtype.
Expected<DitTypes> parse_type_flags(const std::string& dtype, const std::string& weights_dtype,
                                    const std::string& kv_dtype);
// 8-bit products want 8-bit weights.
Status check_int8_products(bool int8_products, const std::string& weights_dtype);

}  // namespace liveavatar
