#include "cli/job_files.h"

#include <filesystem>
#include <fstream>

#include "core/folder.h"
#include "core/status.h"
#include "core/text.h"
#include "media/video_writer.h"

namespace liveavatar::cli {
namespace {

namespace fs = std::filesystem;
constexpr int kDepth = 4;  // of folders in a checkpoint's

std::string lower_ending(const fs::path& path) { return lower_case(path.extension().string()); }

bool is_video(const fs::path& path) { return liveavatar::check_video_path(path.string()).ok(); }

// Written by --report or --json.
bool is_report(const fs::path& path) {
  constexpr size_t kHeadBytes = 1 << 16;
  if (lower_ending(path) != ".json") return false;
  std::string head(kHeadBytes, '\0');
  std::ifstream(path).read(head.data(), static_cast<std::streamsize>(head.size()));
  return head.find("predicted_peak_bytes\"") != std::string::npos;
}

// A checkpoint's folder may also hold results of earlier runs, which another run may replace.
bool is_part(const fs::path& path) { return !is_video(path) && lower_ending(path) != ".packed" && !is_report(path); }

void add_folder(std::vector<NamedPath>& inputs, const std::string& flag, const fs::path& folder, int depth) {
  for (const fs::path& entry : folder_entries(folder)) {
    std::error_code ignored;
    if (fs::is_directory(entry, ignored)) {
      if (depth > 0) add_folder(inputs, flag, entry, depth - 1);
    } else if (fs::is_regular_file(entry, ignored) && is_part(entry)) {
      inputs.push_back({flag, entry.string()});
    }
  }
}

// Packed copies of models in a paging folder, which another job may be reading.
void add_packed_copies(std::vector<NamedPath>& inputs, const std::string& folder) {
  for (const fs::path& entry : folder_entries(folder)) {
    if (entry.extension() == ".packed") inputs.push_back({"--paging_dir", entry.string()});
  }
}

}  // namespace

void add_input(std::vector<NamedPath>& inputs, const std::string& flag, const std::string& path) {
  if (path.empty()) return;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    add_folder(inputs, flag, path, kDepth);
  } else {
    inputs.push_back({flag, path});
  }
}

void add_engine_inputs(std::vector<NamedPath>& inputs, const EngineOptions& options) {
  add_input(inputs, "--ckpt_dir", options.checkpoint_dir);
  add_input(inputs, "--dit", options.dit_path);
  add_input(inputs, "--text_encoder", options.text_encoder);
  add_input(inputs, "--vae", options.vae);
  add_input(inputs, "--audio_encoder", options.audio_encoder);
  add_input(inputs, "--tokenizer", options.tokenizer);
  add_input(inputs, "--lora_path_dmd", options.lora_path);
  for (const LoraOptions& lora : options.loras) add_input(inputs, "--lora", lora.path);
  add_input(inputs, "--dit", options.packed_dit);
  if (!options.paging_dir.empty()) add_packed_copies(inputs, options.paging_dir);
}

Expected<std::vector<OutputClaim>> claim_outputs(const std::vector<NamedPath>& inputs,
                                                 const std::vector<NamedPath>& outputs) {
  LA_RETURN_IF_ERROR(check_outputs(inputs, outputs));
  std::vector<OutputClaim> claims;
  for (const NamedPath& output : outputs) {
    LA_ASSIGN_OR_RETURN(OutputClaim claim, OutputClaim::take(output));
    claims.push_back(std::move(claim));
  }
  return claims;
}

Status check_video_path(const NamedPath& video) {
  Status status = liveavatar::check_video_path(video.path);
  return status.ok() ? status : invalid_argument(video.flag + " " + status.message());
}

}  // namespace liveavatar::cli
