#include "session/job_files.h"

#include <algorithm>

#include "media/fit.h"

namespace liveavatar {
namespace {

// Code and tables of the decoders, touched here for the first time: a fit to runs (docs/plan.md).
constexpr size_t kDecoderBytes = size_t{13} << 20;

}  // namespace

Expected<PortraitFile> PortraitFile::open(const std::string& path, int64_t area, Fit fit) {
  LA_ASSIGN_OR_RETURN(ImageFile file, ImageFile::open(path));
  PortraitFile portrait{.file = std::move(file), .fit = fit, .area = area};
  LA_ASSIGN_OR_RETURN(portrait.picture, portrait.file.probe(fit == Fit::kCover, area));
  const ImageInfo& picture = portrait.picture;
  LA_ASSIGN_OR_RETURN(const WorkingSize size, working_size(picture.height, picture.width, area));
  portrait.fit_to(size);
  return portrait;
}

void PortraitFile::fit_to(WorkingSize video) {
  size = video;
  bytes = kDecoderBytes + std::max(picture.decode_bytes, picture.image_bytes + fit_bytes(picture, size, fit));
}

Expected<Portrait> PortraitFile::read(Budget& budget) const {
  auto charge = Charge::acquire(budget, MemoryCategory::kMedia, bytes);
  if (!charge.ok())
    return out_of_memory(file.path() + ": " + charge.status().message() + "; take a portrait of fewer pixels");
  LA_ASSIGN_OR_RETURN(Image image, file.read(fit == Fit::kCover, area));
  return Portrait{fit_image(image, size, fit), picture.height, picture.width, image.orientation};
}

Expected<JobFiles> JobFiles::open(const GenerateRequest& job) {
  JobFiles files;
  LA_ASSIGN_OR_RETURN(int64_t area, parse_size(job.size));
  if (!job.image.empty()) {
    LA_ASSIGN_OR_RETURN(files.portrait, PortraitFile::open(job.image, area, job.fit));
  }
  if (!job.pose_video.empty()) {
    LA_ASSIGN_OR_RETURN(files.pose, open_pose_video(job.pose_video, pose_rule(job)));
  }
  if (job.audio.empty()) return files;
  LA_ASSIGN_OR_RETURN(files.masks, job_masks(job));
  LA_ASSIGN_OR_RETURN(files.mask_sizes, first_mask_sizes(files.masks));
  LA_ASSIGN_OR_RETURN(std::vector<std::string> voices, job_voices(job));
  for (const std::string& path : voices) {
    LA_ASSIGN_OR_RETURN(Voice voice, Voice::open(path));
    files.voices.push_back(std::move(voice));
  }
  return files;
}

}  // namespace liveavatar
