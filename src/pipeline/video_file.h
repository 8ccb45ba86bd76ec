// A video file in an output that the caller holds.
#pragma once

#include <memory>

#include "core/output_files.h"
#include "liveavatar/liveavatar.h"

namespace liveavatar {

// As VideoFile::create. The output outlives the file.
Expected<std::unique_ptr<VideoFile>> create_video(OutputClaim& output, const JobInfo& info, const Job& job);

}  // namespace liveavatar
