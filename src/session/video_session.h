// One video on loaded models: its memory, and the stages before its first block. Over a dry run of the models
// (Models::dry_run) the same code computes nothing and charges the same memory: that is the plan.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string>

#include "liveavatar/liveavatar.h"
#include "media/image.h"
#include "models/wan_vae/static_image.h"
#include "session/denoiser.h"
#include "session/frame_decoder.h"
#include "session/memory.h"
#include "session/models.h"
#include "session/pose.h"

namespace liveavatar {

class VideoSession;

// What a video is made from: a job's files; in a dry run only their sizes; in a benchmark noise. Called by prepare(),
// in this order.
class VideoInputs {
 public:
  virtual ~VideoInputs() = default;
  // Small files, so that a wrong one is found before anything large is done. budget: of host memory.
  virtual Status open(Budget&) { return {}; }
  virtual void begin(Stage) {}  // kText, kImage, kPrefill
  // [tokens, text_dim] f32 on the text encoder's backend: in host memory.
  virtual Expected<OwnedTensor> prompt(VideoSession& session) = 0;
  virtual Expected<StaticImageLatents> portrait(VideoSession& session) = 0;
  // For observers: the portrait's latent as the sink will have it, [16, 1, h, w] f32. Not in a dry run.
  virtual void reference(const Tensor&) {}
  // Outlives the session. Null in a dry run; not called for a video without one.
  virtual PoseVideo* pose() { return nullptr; }
};

// All memory of the video is charged to its budget, which may be inside that of the models. Models and budget outlive
// it. Not thread-safe.
class VideoSession {
 public:
  struct Options {
    Sampling sampling;
    std::string cache_folder;            // where keys and values are that do not stay in memory
    std::stop_token stop;                // heard between layers in every stage: kCancelled
    Group* stage = nullptr;              // Denoiser::Options::stage
    bool black_pose_end = false;         // PoseEncoder::Options::black_end
    DitWeightGroups* weights = nullptr;  // of the video whose layers this one shares (JobShape::shares_weights)
  };
  VideoSession(Models& models, Budget& budget, const JobShape& shape, const Options& options)
      : models_(models), budget_(budget), shape_(shape), options_(options) {}

  // All that comes before the first block. Once.
  Status prepare(VideoInputs& inputs);
  // Fills the sink again: the reference latent, and the motion before the first block.
  Status prefill();

  // For inputs. Both are computed, or come from the models' cache. In a dry run only the memory is charged.
  Expected<OwnedTensor> encode_prompt(std::span<const int32_t> ids);
  Expected<OwnedTensor> encode_new_prompt(std::span<const int32_t> ids);  // for change_prompt()
  Expected<StaticImageLatents> encode_portrait(const Image& portrait);    // of the video's size; empty in a dry run

  // While it runs, between two blocks; not over a dry run. Where one fails the session cannot be used any more.
  // The next block and the sink have this prompt: rows [tokens, text_dim] f32 on the video model's device.
  Status change_prompt(const Tensor& rows);
  // Begins anew with this portrait and the same prompt, as a session that was just prepared: the next block is the
  // first.
  Status restart(const StaticImageLatents& portrait);

  const JobShape& shape() const { return shape_; }
  Budget& budget() { return budget_; }
  // After prepare(). Of a rank that samples.
  Denoiser& denoiser() { return *denoiser_; }
  DitWeightGroups& weights() { return options_.weights != nullptr ? *options_.weights : *weights_; }
  FrameDecoder& decoder() { return *decoder_; }
  PoseEncoder* pose() { return pose_.get(); }  // null: no pose video
  BlockMemory& blocks() { return blocks_; }
  LinkMemory& link() { return link_; }
  const StaticImageLatents& static_image() const { return static_image_; }

 private:
  Status open_writer();
  Status open_denoiser(VideoInputs& inputs);
  void set_reference();
  Status open_blocks();
  Status open_weights();
  Status open_decoder();
  Status open_pose(PoseVideo* video);
  Expected<StaticImageLatents> encode_image(const Image& portrait);
  Expected<StaticImageLatents> copy_latents(const std::vector<OwnedTensor>& kept);

  Models& models_;
  Budget& budget_;
  JobShape shape_;
  Options options_;
  Charge writer_;  // the video file that the caller writes beside the job
  std::unique_ptr<Denoiser> denoiser_;
  StaticImageLatents static_image_;
  Event static_image_done_;  // where decoding has a queue of its own, it waits for this one
  BlockMemory blocks_;
  LinkMemory link_;
  std::unique_ptr<DitWeightGroups> weights_;
  std::unique_ptr<FrameDecoder> decoder_;
  std::unique_ptr<PoseEncoder> pose_;
};

}  // namespace liveavatar
