// The files that a job names, open. Each is opened once.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/memory.h"
#include "liveavatar/liveavatar.h"
#include "media/image_file.h"
#include "media/pose_video.h"
#include "session/actor_masks.h"
#include "session/speakers.h"
#include "session/voices.h"

namespace liveavatar {

inline FrameRule pose_rule(const GenerateRequest& job) {
  return job.original_pose ? FrameRule::kOriginal : FrameRule::kResampled;
}

// The image as the model sees it, whose size is the video's.
struct Portrait : Image {
  int64_t image_height = 0, image_width = 0;  // as it was turned upright, if it was
  int turned_by = 1;                          // Image::orientation of that image
};

// By its header alone: the size that it decides, and what reading and fitting it takes.
struct PortraitFile {
  ImageFile file;
  ImageInfo picture;
  WorkingSize size;
  size_t bytes = 0;
  Fit fit = Fit::kCover;
  int64_t area = 0;  // of the video, as asked for

  static Expected<PortraitFile> open(const std::string& path, int64_t area, Fit fit);
  // For a video that has its size already.
  void fit_to(WorkingSize video);
  // `bytes` are charged meanwhile.
  Expected<Portrait> read(Budget& budget) const;
};

struct JobFiles {
  std::optional<PortraitFile> portrait;
  std::vector<Voice> voices;
  std::vector<MaskImages> masks;     // read one by one as they are needed; none with one voice
  std::vector<MaskSize> mask_sizes;  // of each one's first image
  std::unique_ptr<PoseVideo> pose;   // null: none

  // A job without portrait or voice, of which only a plan can be made, has none here. job.size is an area.
  static Expected<JobFiles> open(const GenerateRequest& job);
};

}  // namespace liveavatar
