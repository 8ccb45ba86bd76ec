// liveavatar: one portrait, a voice and a sentence become a talking video, chunk by chunk.
//
//   auto engine = liveavatar::Engine::load({.checkpoint_dir = "models/mini"});
//   (*engine)->generate({.image = "me.png", .audio = "voice.wav", .prompt = "a woman talks"}, on_chunk);
//
// Every call that can fail for a reason outside the program returns Status or Expected: one line that says what, where
// and what to do. The library never prints, exits or throws. Paths and texts are UTF-8; a path goes to the system byte
// for byte. C++20. docs/library.md shows how to install and link it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "liveavatar/export.h"
#include "liveavatar/status.h"
#include "liveavatar/types.h"
#include "liveavatar/version.h"

namespace liveavatar {

// Version of the linked library, "1.2.3"; LIVEAVATAR_VERSION_STRING is that of the headers. Any thread.
LIVEAVATAR_EXPORT const char* version();

// A LoRA adapter to merge into the video model: a file, a folder of PEFT's, or one that holds liveavatar.safetensors.
struct LoraOptions {
  std::string path;
  double strength = 1;  // times all that it changes; -1000..1000, 0 changes nothing
};

struct EngineOptions {
  std::string checkpoint_dir;  // folder in the original's layout (docs/checkpoint.md)
  // Parts that replace the folder's: a file, or a folder that is searched for the part. With all of them checkpoint_dir
  // may be empty.
  std::string dit_path;      // the video model: safetensors, GGUF
  std::string text_encoder;  // UMT5; may hold the tokenizer
  std::string vae;
  std::string audio_encoder;
  std::string tokenizer;  // spiece.model, or the folder that holds it
  std::string lora_path;  // optional: liveavatar.safetensors, or the folder that holds it
  // Of Live Avatar's own adapter (docs/checkpoint.md), whose file has no alpha; the merge scale is alpha / rank.
  double lora_alpha = 64;
  std::vector<LoraOptions> loras;  // further adapters, merged after lora_path in this order
  // "cpu"; "cuda" or "cuda:1", an NVIDIA card, with the text and the audio encoder on the CPU; or "reference" (slow
  // plain loops, for checking). A text, since devices have numbers and depend on the machine: no list is complete.
  std::string device = "cpu";
  // Several devices make each video together (docs/many_devices.md), a rank each: "cuda:0,cuda:1", "cpu:2" (twice the
  // CPU), "cpu,cuda:0". The first is the lead, which has the VAE. Empty: `device` alone. The video is that of one
  // device; on cards with Tune::kOff, else up to roundings.
  std::string devices;
  int num_gpus_dit = 0;       // how many of them sample, a range of the steps each; 0: all that can
  int ulysses_size = 1;       // how many share each of their steps, some tokens and heads each
  bool vae_parallel = false;  // the lead samples nothing: it decodes while the others sample
  std::string step_shares;    // steps of each range, as "2,1,1"; empty: as balances
  // The video model's layers are dealt to the devices that sample: each has some of them and reads the others from
  // their owners when it needs them. Budgets are of each device, on the CPU too.
  bool shard_weights = false;
  ComputeType dtype = ComputeType::kBf16;
  WeightsType weights_dtype = WeightsType::kSameAsDtype;
  KvType kv_dtype = KvType::kSameAsDtype;
  bool int8_products = false;  // W8A8: with int8 weights, activations in 8 bits too, if the CPU can
  Tune tune = Tune::kAuto;     // of a card
  int threads = 0;             // 0: as many as this process may use
  // On the CPU: number of extra threads that decode frames while the next block is sampled; 0: the same threads do
  // both, one after the other. Takes more memory (`plan` says how much); the video is the same to the bit.
  int decode_threads = 0;
  // On a card: frames are decoded on a stream of their own while the next block is sampled. false: one after the other.
  // The video is the same to the bit.
  bool decode_beside = true;
  // Of the device. 0: no limit, or 15/16 of what is free on a card. A job that does not fit is kOutOfMemory before a
  // weight is read.
  size_t memory_budget_bytes = 0;
  // The same of host memory beside a card; 0: 7/8 of what is available. Without a card memory_budget_bytes is that
  // limit.
  size_t host_budget_bytes = 0;
  // A video model made by `liveavatar convert`, instead of the folder's; its LoRA is merged in already. With a budget
  // as many of its layers as needed stay on disk.
  std::string packed_dit;
  // With a budget: a folder on disk for what does not fit. Without packed_dit such a file is made there once, so that
  // layers can stay on disk; if that is not enough, KV caches of other steps go there too.
  std::string paging_dir;
  // Beside a card what does not fit waits in host memory, and goes to that folder if this is not enough.
  // False: layers stay on the device, only KV caches may leave it.
  bool page_weights = true;
  bool offload_kv_cache = false;  // KV caches are never on the device, with or without a budget
  // Memory for what the engine computed from prompts and portraits, kept for the next job with the same ones. That job
  // starts sooner; its video is the same to the bit. Part of the budget. A prompt of the 14B model takes up to 8 MiB, a
  // portrait about 8 MiB at 704*384. 0: nothing is kept.
  size_t cache_bytes = 0;
};

// Where a running job stands. Counts start at 0. A block is sampled at once, 12 frames; blocks is the job's
// number of them.
struct Progress {
  Stage stage = Stage::kText;  // what begins
  int64_t block = 0, blocks = 0;
  int64_t frames_done = 0, frames = 0;
  int64_t retried_block = -1;  // the last one that was computed again (OnNan::kRetry); -1: none
};

// The requested job.
struct GenerateRequest {
  std::string image;  // any static image that FFmpeg or libheif reads
  std::string audio;  // any audio file FFmpeg reads; 8 hours are fine. Several speakers: "left.wav+right.wav"
  // Where each of several speakers is, in the voices' order: a PNG each (not black where the speaker is; scaled and
  // cropped as the portrait is), or a folder of PNGs each, one a frame of video, the last repeated; or one folder with
  // subfolders 1, 2, ...
  std::vector<std::string> masks;
  // The Python original's rule: masks resized to the frame, those of the first block for all blocks, the shortest voice
  // ends the video. Else the longest does.
  bool original_speakers = false;
  // A video whose frames steer the movement (poses drawn on black); empty: none. Read as the video is made, at 25
  // frames a second, scaled and cropped as `fit` says; its last frame is repeated if it ends before the voice.
  std::string pose_video;
  bool original_pose = false;  // the Python original's rule: no resampling, black frames after the end
  std::string prompt;          // one sentence, UTF-8; may be empty
  // An area, as "704*384", and a text because that is how people and scripts write it: the portrait's aspect decides
  // the shape, sides are multiples of 64. Empty: the model's own, "liveavatar_size" of its config.json, or 704*384.
  std::string size;
  Fit fit = Fit::kCover;
  int64_t num_clip = 0;       // at most this many clips; 0: as long as the voice. Never longer than the voice
  int64_t infer_frames = 48;  // frames a clip; rounded up to a multiple of 12
  int sample_steps = 4;       // 1..1000
  double sample_shift = 3.0;
  SampleSolver sample_solver = SampleSolver::kEuler;
  uint64_t seed = 420;        // same seed, same video, on any number of threads
  bool online_decode = true;  // false: keep all latents, decode at the end
  Schedule schedule = Schedule::kAuto;
  CheckFinite check_finite = CheckFinite::kBlock;
  // kRetry: blocks one after the other, on one device, with keys and values on it; else kUnsupported.
  OnNan on_nan = OnNan::kStop;
  // Of the VideoFile that is created with this job's JobInfo. kNvenc where there is none is kUnsupported before any
  // work.
  VideoEncoder video_encoder = VideoEncoder::kAuto;
  std::function<void(const Progress&)> on_progress;  // optional; called on the generating thread
};

// What a job will make, known before the first block.
struct JobInfo {
  int64_t width = 0, height = 0;  // pixels
  int64_t fps = 25;
  int64_t frames = 0, blocks = 0, clips = 0;
  std::vector<std::string> notes;  // what a user should know of the inputs, a line each
  // Of the job's video file: kAuto where the engine is on a card alone. Frames go to NVENC from host memory.
  VideoEncoder video_encoder = VideoEncoder::kCpu;
  int video_card = -1;  // whose NVENC, as in "cuda:1"; -1: any
};

// Consecutive frames, ready to show. The memory is the engine's, valid during the callback only.
struct VideoChunk {
  int64_t first_frame = 0;  // position in the video; they arrive in order without gaps
  int64_t frames = 0;       // 4, one latent; fewer at the end
  int64_t width = 0, height = 0;
  const uint8_t* rgb = nullptr;  // [frames, height, width, 3]
};

// Return false to stop: generate() then returns kCancelled and everything delivered so far is yours.
using ChunkCallback = std::function<bool(const VideoChunk&)>;

// Memory by category: "weights", "kv_cache", "conditioning", "activations", "vae", "text", "audio", "media",
// "runtime".
struct CategoryMemory {
  std::string name;
  size_t used_bytes = 0, peak_bytes = 0;
};

struct LiveRequest;  // liveavatar/live.h
struct LiveCallbacks;
class LiveSession;
class LocalEngine;   // what is behind an Engine
class ThreadedFile;  // and behind a VideoFile

// Loaded models on one device. Different engines are independent: each may be used by its own thread at the same time.
// Of one engine: generate() runs one job at a time; all else may be called from any thread at any time, also while
// generate() runs and from within its callbacks. The threads that an engine works with are its own and never call back.
class LIVEAVATAR_EXPORT Engine final {
 public:
  // Any thread, several at once. The options are copied.
  static Expected<std::unique_ptr<Engine>> load(const EngineOptions& options);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  // Not while a call is running, thus not from a callback. It may be another thread than the one that loaded it.
  ~Engine();

  // Checks the request's image, audio and numbers and returns what the job will make. Any thread, also beside
  // generate(): reading the portrait is charged to memory_budget_bytes then too, so that either may be refused under a
  // tight one.
  Expected<JobInfo> describe(const GenerateRequest& request);
  // Runs the job on the calling thread and returns when it has ended; on_chunk gets frames as soon as they are decoded,
  // and the job waits for it. Both callbacks are called on the calling thread, never two at a time, never afterwards.
  // The request and the callbacks must not change meanwhile. stop: asked for on any thread, also in a callback, it ends
  // the job as kCancelled, within a layer of the model that is running; frames that were delivered are yours. A second
  // generate() on the same engine, from another thread or from a callback, is refused at once with kUnsupported and
  // disturbs nothing. An empty on_chunk is kInvalidArgument. What on_chunk or on_progress throws ends the job as
  // kCancelled, with its message. After any error the engine is ready for the next job.
  Status generate(const GenerateRequest& request, const ChunkCallback& on_chunk, std::stop_token stop = {});
  // A video without an end, from sound that is pushed (liveavatar/live.h). Returns when it is ready to begin. Any
  // thread, also while other sessions run, which are late by that. The session's memory is part of memory_budget_bytes:
  // kOutOfMemory, before anything is allocated, where it is not left. Jobs and live sessions exclude each other:
  // kUnsupported while generate() runs, and generate() while a session is open. Not from a callback.
  Expected<std::unique_ptr<LiveSession>> open_live(const LiveRequest& request, const LiveCallbacks& callbacks);
  // Any thread, at any time; while a job runs the numbers are of a moment in it.
  size_t memory_used_bytes() const;
  size_t memory_peak_bytes() const;  // since load()
  std::vector<CategoryMemory> memory_by_category() const;

 private:
  explicit Engine(std::unique_ptr<LocalEngine> impl);
  std::unique_ptr<LocalEngine> impl_;
};

// A video file with the voice beside the frames (H.264 + AAC; .mp4, .m4v, .mov, .mkv; JobInfo::video_encoder can make
// it HEVC or AV1), or HLS, a playlist (.m3u8) with its segments beside it. It plays while it grows. One thread at a
// time, but it need not be the same one. It needs no engine and may outlive the one whose frames it gets.
class LIVEAVATAR_EXPORT VideoFile final {
 public:
  // audio as in GenerateRequest; may be empty: a silent video. Several voices are mixed; original_mix: as the Python
  // original does, their mean in 16 bit, as long as the shortest.
  static Expected<std::unique_ptr<VideoFile>> create(const std::string& path, const JobInfo& info,
                                                     const std::string& audio, bool original_mix = false);
  VideoFile(const VideoFile&) = delete;
  VideoFile& operator=(const VideoFile&) = delete;
  ~VideoFile();  // without finish(): the file plays up to its last second

  // Copies the frames and may wait until there is room for them; they are encoded on the file's own thread. What goes
  // wrong there is said by the next call. Frames of another size than the file's, or after finish(): kInvalidArgument.
  Status append(const VideoChunk& chunk);
  // The encoder by FFmpeg's name: "libx264", "h264_nvenc".
  std::string encoder() const;
  // To be called also after a stop or an error, so that the file ends properly: an MP4 gets its index here. A second
  // call does nothing.
  Status finish();

 private:
  explicit VideoFile(std::unique_ptr<ThreadedFile> impl);
  std::unique_ptr<ThreadedFile> impl_;
};

}  // namespace liveavatar
