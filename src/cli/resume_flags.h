// `--resume` and its companions, and a time or a number of blocks as people write them.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "core/status.h"

namespace liveavatar {
struct SnapshotOptions;
}

namespace liveavatar::cli {

struct ResumeFlags {
  bool resume = false;
  std::string every = "60s";
  int keep = 2;
  bool one_process = true;  // makes the video: no ranks of mpirun
};

void add_resume_flags(CLI::App& app, ResumeFlags& flags, const std::string& group);

// kInvalidArgument for numbers that make no sense, and for a video that cannot be resumed.
Status check_resume_flags(const CLI::App& app, const ResumeFlags& flags, const std::string& video);
// Of a video at this path; the flags were checked.
SnapshotOptions snapshot_options(const ResumeFlags& flags, const std::string& video);

}  // namespace liveavatar::cli
