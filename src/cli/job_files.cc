#include "cli/job_files.h"

#include <filesystem>
#include <fstream>
#include <set>

#include "core/folder.h"
#include "core/status.h"
#include "core/text.h"
#include "media/video_writer.h"
#include "weights/packed_file.h"

namespace liveavatar::cli {
namespace {

namespace fs = std::filesystem;
constexpr int kDepth = 4;  // of folders in a checkpoint's

std::string lower_ending(const fs::path& path) { return lower_case(path.extension().string()); }

bool is_video(const fs::path& path) { return liveavatar::check_video_path(path.string()).ok(); }

bool holds_something(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored) && fs::file_size(path, ignored) > 0;
}

Status not_replaced(const NamedPath& output, const std::string& kind) {
  return invalid_argument(output.flag + " " + output.path + ": is there and is no " + kind +
                          ", and would be lost; choose another name, or remove it first");
}

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

// seen: folders that were searched, as links may lead to them again.
void add_folder(std::vector<NamedPath>& inputs, const NamedPath& folder_of, int depth, std::set<fs::path>& seen) {
  const auto& [flag, folder] = folder_of;
  std::error_code error;
  if (!seen.insert(fs::canonical(folder, error)).second) return;
  for (const fs::path& entry : folder_entries(folder)) {
    std::error_code ignored;
    if (fs::is_directory(entry, ignored)) {
      if (depth > 0) add_folder(inputs, {flag, entry.string()}, depth - 1, seen);
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

// Segments of HLS replace what has their names.
Status check_segments(const std::vector<NamedPath>& inputs, const std::vector<NamedPath>& outputs) {
  for (const NamedPath& input : inputs) {
    for (const std::string& name : {input.path, follow_links(input.path)}) {
      if (!name.ends_with(".ts")) continue;  // of long lists nearly all
      for (const NamedPath& output : outputs) {
        if (writes_segment(output.path, name))
          return invalid_argument(output.flag + " " + output.path + ": " + input.flag + " " + input.path +
                                  " is named like its segments, and would be lost; choose another name");
      }
    }
  }
  return {};
}

}  // namespace

void add_input(std::vector<NamedPath>& inputs, const std::string& flag, const std::string& path) {
  if (path.empty()) return;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    std::set<fs::path> seen;
    add_folder(inputs, {flag, path}, kDepth, seen);
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

Status check_inputs_stay(const std::vector<NamedPath>& inputs, const std::vector<NamedPath>& outputs) {
  LA_RETURN_IF_ERROR(check_outputs(inputs, outputs));
  return check_segments(inputs, outputs);
}

Expected<std::vector<OutputClaim>> claim_outputs(const std::vector<NamedPath>& inputs,
                                                 const std::vector<NamedPath>& outputs) {
  LA_RETURN_IF_ERROR(check_inputs_stay(inputs, outputs));
  std::vector<OutputClaim> claims;
  for (const NamedPath& output : outputs) {
    if (output.flag == "--report" || output.flag == "--json") LA_RETURN_IF_ERROR(check_replaces_json(output));
    LA_ASSIGN_OR_RETURN(OutputClaim claim, OutputClaim::acquire(output));
    claims.push_back(std::move(claim));
  }
  return claims;
}

Status check_replaces_json(const NamedPath& output) {
  if (!holds_something(output.path)) return {};
  char first = 0;
  std::ifstream file(output.path, std::ios::binary);
  file >> first;
  return file && first == '{' ? Status() : not_replaced(output, "JSON");
}

Status check_replaces_packed(const NamedPath& output) {
  bool replaces = !holds_something(output.path) || is_packed_file(output.path);
  return replaces ? Status() : not_replaced(output, "packed model");
}

Status check_video_path(const NamedPath& video) {
  Status status = liveavatar::check_video_path(video.path);
  return status.ok() ? status : invalid_argument(video.flag + " " + status.message());
}

}  // namespace liveavatar::cli
