// What can be chosen by name. Each enum has its texts: <type>_name() gives one, parse_<type>() reads it and returns
// kInvalidArgument with the valid texts for another text. Any thread.
#pragma once

#include <string>

#include "liveavatar/export.h"
#include "liveavatar/status.h"

namespace liveavatar {

// Of values, and of weights where nothing else is said: "bf16", "f32".
enum class ComputeType { kBf16, kF32 };
LIVEAVATAR_EXPORT const char* compute_type_name(ComputeType type);
LIVEAVATAR_EXPORT Expected<ComputeType> parse_compute_type(const std::string& text);

// Of the video model's large matrices: "" (as dtype says), "bf16", "int8", "fp8", "q4".
enum class WeightsType { kSameAsDtype, kBf16, kInt8, kFp8, kQ4 };
LIVEAVATAR_EXPORT const char* weights_type_name(WeightsType type);
LIVEAVATAR_EXPORT Expected<WeightsType> parse_weights_type(const std::string& text);

// Of the video model's keys and values: "" (as dtype says), "bf16", "int8", "fp8".
enum class KvType { kSameAsDtype, kBf16, kInt8, kFp8 };
LIVEAVATAR_EXPORT const char* kv_type_name(KvType type);
LIVEAVATAR_EXPORT Expected<KvType> parse_kv_type(const std::string& text);

// Whether libraries of a card may compute what they were found to compute right and quicker: "auto", "off".
enum class Tune {
  kAuto,  // found out before the first block and kept on disk (docs/cuda.md)
  kOff,   // own kernels only
};
LIVEAVATAR_EXPORT const char* tune_name(Tune tune);
LIVEAVATAR_EXPORT Expected<Tune> parse_tune(const std::string& text);

// The order in which blocks are denoised: "auto", "sequential", "wavefront". The video is the same to the bit.
enum class Schedule {
  kAuto,        // wavefront where weights are paged
  kSequential,  // block after block
  kWavefront,   // several in flight, each a step behind the one before: weights are read less often, and a block
                // is finished later
};
LIVEAVATAR_EXPORT const char* schedule_name(Schedule schedule);
LIVEAVATAR_EXPORT Expected<Schedule> parse_schedule(const std::string& text);

// Of the flow-matching ODE: "euler", "unipc", "dpm++". A solver's history restarts with each block.
enum class SampleSolver { kEuler, kUniPc, kDpmPlusPlus };
LIVEAVATAR_EXPORT const char* sample_solver_name(SampleSolver solver);
LIVEAVATAR_EXPORT Expected<SampleSolver> parse_sample_solver(const std::string& text);

// How the portrait is brought into the frame: "cover", "original".
enum class Fit {
  kCover,     // scaled until it covers the frame, centre-cropped; EXIF rotation respected
  kOriginal,  // the Python original's rule: may leave black bars, ignores EXIF rotation
};
LIVEAVATAR_EXPORT const char* fit_name(Fit fit);
LIVEAVATAR_EXPORT Expected<Fit> parse_fit(const std::string& text);

// What makes a video file of the frames: "auto", "cpu", "nvenc".
enum class VideoEncoder {
  kAuto,   // on a card NVENC where it opens for the video's size, else the CPU's
  kCpu,    // H.264
  kNvenc,  // of an NVIDIA card: H.264, or where that refuses the size HEVC, then AV1
};
LIVEAVATAR_EXPORT const char* video_encoder_name(VideoEncoder encoder);
LIVEAVATAR_EXPORT Expected<VideoEncoder> parse_video_encoder(const std::string& text);

// After what the values are looked at, so that those that are not finite are found: "block", "step", "layer". The error
// names the place.
enum class CheckFinite {
  kBlock,  // a block's latents
  kStep,   // every denoising step
  kLayer,  // every layer: on a card its values come to the host for it
};
LIVEAVATAR_EXPORT const char* check_finite_name(CheckFinite check);
LIVEAVATAR_EXPORT Expected<CheckFinite> parse_check_finite(const std::string& text);

// What is done where a block's values are not finite: "stop", "retry".
enum class OnNan {
  kStop,   // the job fails
  kRetry,  // the block is computed once more from its noise, in the same types: a machine that was wrong once gives
           // numbers then, a broken model fails again
};
LIVEAVATAR_EXPORT const char* on_nan_name(OnNan on_nan);
LIVEAVATAR_EXPORT Expected<OnNan> parse_on_nan(const std::string& text);

// What a running job begins to do; a newer library may have more of them.
enum class Stage {
  kText,     // "text": the prompt
  kImage,    // "image": the portrait
  kPrefill,  // "prefill": the attention sink
  kSample,   // "sample": a block's latents
  kDecode,   // "decode": a chunk's frames
  kWrite,    // "write": your on_chunk
};
LIVEAVATAR_EXPORT const char* stage_name(Stage stage);

}  // namespace liveavatar
