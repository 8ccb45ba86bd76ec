#include "cli/resume_flags.h"

#include <cstdlib>

#include "cli/disk_wait.h"
#include "media/stream_address.h"
#include "media/video_writer.h"
#include "pipeline/snapshots.h"

namespace liveavatar::cli {
namespace {

constexpr const char* kWays = "write 90s, 10m, 2h, or 50 for every 50 blocks of 12 frames";

struct Every {
  double seconds = 0;
  int64_t blocks = 0;
};

Expected<Every> parse_every(const std::string& text) {
  if (const std::optional<double> seconds = seconds_of(text); seconds.value_or(0) > 0) return Every{*seconds, 0};
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  const bool sane = end != text.c_str() && *end == '\0' && number > 0 && number <= 1e9;
  if (sane && number == static_cast<double>(static_cast<int64_t>(number)))
    return Every{0, static_cast<int64_t>(number)};
  return invalid_argument("--snapshot_every " + text + ": is no time and no number of blocks; " + kWays);
}

}  // namespace

void add_resume_flags(CLI::App& app, ResumeFlags& flags, const std::string& group) {
  app.add_flag(
         "--resume", flags.resume,
         "Write snapshots of the job beside the video (VIDEO.snapshots), and go on from the last one if there is\n"
         "one: after a crash, a power cut or Ctrl-C give the same line again. MP4 alone; docs/resume.md")
      ->group(group);
  app.add_option(
         "--snapshot_every", flags.every,
         "With --resume: a time (90s, 10m, 2h) or a number of blocks of 12 frames; by the time they take 3 % of\n"
         "the run at most")
      ->capture_default_str()
      ->group(group);
  app.add_option("--keep_snapshots", flags.keep, "With --resume: how many of the last ones stay on the disk")
      ->capture_default_str()
      ->group(group);
}

Status check_resume_flags(const CLI::App& app, const ResumeFlags& flags, const std::string& video) {
  LA_RETURN_IF_ERROR(parse_every(flags.every).status());
  if (flags.keep < 1 || flags.keep > 1000)
    return invalid_argument("--keep_snapshots " + std::to_string(flags.keep) + ": choose 1 to 1000");
  for (const char* flag : {"--snapshot_every", "--keep_snapshots"}) {
    if (!flags.resume && app.count(flag) > 0)
      return invalid_argument(std::string(flag) + ": is for --resume; give that too, or leave it out");
  }
  if (!flags.resume) return {};
  if (is_stream(video))  // whose address may have secrets
    return invalid_argument("--resume: a stream cannot be resumed; leave it out, or write an MP4");
  return check_resumable(video);
}

SnapshotOptions snapshot_options(const ResumeFlags& flags, const std::string& video) {
  SnapshotOptions options;
  options.folder = video + ".snapshots";
  options.keep = flags.keep;
  const Expected<Every> every = parse_every(flags.every);
  LA_CHECK(every.ok());
  options.every_s = every->seconds;
  options.every_blocks = every->blocks;
  return options;
}

}  // namespace liveavatar::cli
