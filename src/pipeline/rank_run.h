// A rank that is not the lead: it samples its steps and heads of the lead's videos.
#pragma once

#include "parallel/group.h"
#include "plan/resolve_shape.h"
#include "session/models.h"

namespace liveavatar {

// What a rank of a finished video used, for the report. The lead has one, too.
struct RankReport {
  int rank = 0;
  Group::Place place;
  std::string part;  // Placement::text
  size_t planned_peak_bytes = 0, peak_bytes = 0;
  double sample_s = 0, waited_s = 0;  // waited_s: of these, for other ranks
  std::string link;                   // Denoiser::link()
};

// One video, from its job to its report. models: with the video model; limits: of their memory. A failure of this rank
// fails the group. Ok and no video: the lead wants no more.
Expected<bool> serve_video(Models& models, const MemoryLimits& limits, Group& group);

// The lead's end of that report.
Expected<RankReport> receive_report(Group& group, int from);
// To a rank that waits for the next video.
Status send_end(Group& group, int to);

}  // namespace liveavatar
