#include "pipeline/job_identity.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <span>

#include "core/folder.h"
#include "core/text.h"
#include "media/checksum.h"
#include "media/file_io.h"
#include "session/solver.h"
#include "weights/weights_key.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

std::string exact(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.17g", value);
  return text;
}

// Of a file's bytes, or of those of a folder's files.
Status add_file(const fs::path& path, Checksum& sum) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    for (const fs::path& entry : folder_entries(path)) LA_RETURN_IF_ERROR(add_file(entry, sum));
    return {};
  }
  LA_ASSIGN_OR_RETURN(const SharedFile file, ReadFile::open(path.string(), "a file"));
  constexpr int64_t kPart = 1 << 20;
  for (int64_t at = 0;; at += kPart) {
    const std::string part = file->bytes_at(at, kPart);
    sum.add(std::as_bytes(std::span(part)));
    if (std::ssize(part) < kPart) return {};
  }
}

Expected<std::string> file_key(const std::vector<std::string>& paths) {
  Checksum sum;
  for (const std::string& path : paths) LA_RETURN_IF_ERROR(add_file(path, sum));
  return hex(sum.end());
}

// What was heard tells one voice from another.
std::string voices_key(const std::vector<Voice>& voices) {
  std::string key;
  for (const Voice& voice : voices) {
    key += key.empty() ? "" : " + ";
    key += std::to_string(voice.samples()) + " samples";
    if (voice.heard) key += ", mean " + exact(voice.heard->mean) + ", variance " + exact(voice.heard->variance);
  }
  return key;
}

Status add_models(const Checkpoint& checkpoint, JobIdentity& job) {
  job["video model"] = checkpoint.shapes.dit_key;
  const std::pair<const char*, const TensorSourcePtr*> parts[] = {
      {"text encoder", &checkpoint.text}, {"VAE", &checkpoint.vae}, {"audio encoder", &checkpoint.audio}};
  for (const auto& [name, source] : parts) {
    if (*source == nullptr) continue;
    LA_ASSIGN_OR_RETURN(job[name], weights_key(**source, {}));
  }
  const EngineOptions& options = checkpoint.options;
  job["device"] = options.device.substr(0, options.device.find(':'));
  job["dtype"] = compute_type_name(options.dtype);
  job["int8 products"] = options.int8_products ? "on" : "off";
  return {};
}

Status add_inputs(const ResolvedJob& resolved, JobIdentity& job) {
  const GenerateRequest& r = resolved.job;
  LA_ASSIGN_OR_RETURN(job["portrait"], file_key({r.image}));
  job["voice"] = voices_key(resolved.files.voices);
  job["prompt"] = r.prompt;
  if (!r.masks.empty()) {
    LA_ASSIGN_OR_RETURN(job["masks"], file_key(r.masks));
  }
  if (r.pose_video.empty()) return {};
  LA_ASSIGN_OR_RETURN(job["pose video"], file_key({r.pose_video}));
  job["pose frames"] = r.original_pose ? "original" : "resampled";
  return {};
}

}  // namespace

std::string mark_of(const JobIdentity& job) {
  Checksum sum;
  for (const auto& [name, value] : job) {
    const std::string line = name + ": " + value + "\n";
    sum.add(std::as_bytes(std::span(line)));
  }
  return "liveavatar job " + hex(sum.end());
}

Expected<JobIdentity> identity_of(const Checkpoint& checkpoint, const ResolvedJob& resolved) {
  JobIdentity job;
  LA_RETURN_IF_ERROR(add_models(checkpoint, job));
  LA_RETURN_IF_ERROR(add_inputs(resolved, job));
  const GenerateRequest& r = resolved.job;
  const JobShape& shape = resolved.shape;
  job["weights type"] = shape.weights_name();
  job["type of keys and values"] = shape.kv_name();
  job["blocks in flight"] = std::to_string(shape.blocks_in_flight());
  job["size"] = std::to_string(shape.width) + "x" + std::to_string(shape.height);
  job["frames"] = std::to_string(resolved.info.frames);
  job["frames of a clip"] = std::to_string(shape.clip_frames);
  job["fit"] = fit_name(r.fit);
  job["speakers"] = r.original_speakers ? "original" : "fitted";
  job["steps"] = std::to_string(shape.steps);
  job["shift"] = exact(resolved.sampling.shift);
  job["solver"] = sample_solver_name(resolved.sampling.solver);
  if (const Placement& placement = shape.placement; placement.ranks() > 1) {
    for (int rank = 0; rank < placement.ranks(); ++rank)
      job["device " + std::to_string(rank)] = placement.text(rank) + ", " +
                                              std::to_string(rank_shape(shape, placement, rank).blocks_in_flight()) +
                                              " in flight";
  }
  job["seed"] = std::to_string(resolved.sampling.seed);
  return job;
}

}  // namespace liveavatar
