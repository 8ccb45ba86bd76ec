// One video on loaded models: the stages of a run, in their order. Over a dry run of the models (Models::dry_run) the
// same stages compute nothing and charge the same memory: that is the plan.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string>

#include "media/image.h"
#include "models/wan_vae/static_image.h"
#include "session/denoiser.h"
#include "session/frame_decoder.h"
#include "session/memory.h"
#include "session/models.h"
#include "session/pose.h"

namespace liveavatar {

// All memory of the video is charged to its budget, which may be one inside that of the models. Models, budget and pose
// video outlive it. Not thread-safe.
class VideoSession {
 public:
  struct Options {
    Sampling sampling;
    std::string cache_folder;           // where keys and values are that do not stay in memory
    std::stop_token stop;               // heard between layers in every stage: kCancelled
    DitWeightGroups* layers = nullptr;  // of the video whose layers this one shares (JobShape::shares_layers)
  };
  VideoSession(Models& models, Budget& budget, const JobShape& shape, const Options& options)
      : models_(models), budget_(budget), shape_(shape), options_(options) {}

  // Stage "text". The memory of the video file that the caller writes beside the job.
  Status open_writer();
  // The prompt's embedding [tokens, text_dim] f32, on the text encoder's backend: new, or the models' cache has it.
  Expected<OwnedTensor> encode_prompt(std::span<const int32_t> ids);
  Status open_denoiser();
  // rows: as encode_prompt() gives them.
  Status set_prompt(OwnedTensor rows);

  // Stage "image". portrait: of the video's size; empty in a dry run. Its latents may come from the cache too.
  Status encode_portrait(const Image& portrait);
  // Conditioning of the blocks, and the layers' weights unless they are shared.
  Status open_blocks();
  // Fills the sink with the portrait: its reference latent, and the motion before the first block.
  Status prefill();
  Status open_decoder();
  // video: null in a dry run.
  Status open_pose(PoseVideo* video, bool black_end);

  const JobShape& shape() const { return shape_; }
  Denoiser& denoiser() { return *denoiser_; }
  DitWeightGroups& layers() { return shape_.shares_layers ? *options_.layers : *layers_; }
  FrameDecoder& decoder() { return *decoder_; }
  PoseEncoder* pose() { return pose_.get(); }  // null: no pose video
  BlockMemory& blocks() { return blocks_; }

 private:
  Expected<StaticImageLatents> encode_image(const Image& portrait);
  Expected<StaticImageLatents> find_latents(const std::string& key);

  Models& models_;
  Budget& budget_;
  JobShape shape_;
  Options options_;
  Charge writer_;
  std::unique_ptr<Denoiser> denoiser_;
  StaticImageLatents static_image_;
  BlockMemory blocks_;
  std::unique_ptr<DitWeightGroups> layers_;
  std::unique_ptr<FrameDecoder> decoder_;
  std::unique_ptr<PoseEncoder> pose_;
};

}  // namespace liveavatar
