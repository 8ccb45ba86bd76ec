#include "weights/part_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "core/errno_text.h"
#include "core/folder.h"
#include "weights/file_kind.h"
#include "weights/file_names.h"
#include "weights/part_names.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
constexpr int kDepth = 4;  // of folders inside a folder
// Of a ComfyUI tree, without a part of this kind of checkpoint.
constexpr std::array kOtherFolders{"loras", "lora", "controlnet", "embeddings", "clip_vision", "upscale_models"};

bool is_searched(const fs::path& folder) {
  std::string name = folder.filename().string();
  return !name.starts_with(".") && std::find(kOtherFolders.begin(), kOtherFolders.end(), name) == kOtherFolders.end();
}

// All parts of a split GGUF, where `path` is its first.
std::vector<std::string> split_parts(const std::string& path) {
  std::vector<std::string> parts{path};
  auto split = SplitName::parse(path);
  if (!split || split->number != 1) return parts;
  for (int number = 2; number <= split->count; ++number) parts.push_back(split->path_of(number));
  return parts;
}

// The files that an index names; none where it cannot be read.
std::set<std::string> shards_of(const std::string& index) {
  std::set<std::string> shards;
  auto json = read_json_file(index);
  if (!json.ok() || !json->is_object() || !json->contains("weight_map") || !(*json)["weight_map"].is_object())
    return shards;
  for (const auto& [tensor, file] : (*json)["weight_map"].items()) {
    if (file.is_string()) shards.insert(file.get<std::string>());
  }
  return shards;
}

// seen: folders that were searched, as links may lead to them again. problems: folders that cannot be read, by name.
void collect(const fs::path& folder, int depth, std::set<fs::path>& seen, std::vector<std::string>& paths,
             std::vector<WeightsFile>& problems) {
  std::error_code unknown;
  if (!seen.insert(fs::canonical(folder, unknown)).second) return;
  auto entries = list_folder(folder);
  if (!entries.ok()) {
    problems.push_back({folder.string(), nullptr, entries.status().message()});
    return;
  }
  std::vector<fs::path> files, folders;
  std::set<std::string> shards;
  for (const fs::path& entry : *entries) {
    std::error_code ignored;
    const std::string path = entry.string();
    if (fs::is_directory(entry, ignored)) {
      folders.push_back(entry);
    } else if (path.ends_with(kShardIndex)) {
      shards.merge(shards_of(path));
      paths.push_back(path);
    } else if (auto split = SplitName::parse(path); is_weights_file(entry) && (!split || split->number == 1)) {
      files.push_back(entry);  // a later file of a split model is read with its first
    }
  }
  for (const fs::path& file : files) {
    if (!shards.contains(file.filename().string())) paths.push_back(file.string());
  }
  for (const fs::path& inside : folders) {
    if (depth > 0 && is_searched(inside)) collect(inside, depth - 1, seen, paths, problems);
  }
}

// Tensors that related models do not have: the audio encoder of S2V, a position bias in every layer of UMT5, three
// dimensions in the VAE's norms.
std::vector<std::string> telling_names(Part part) {
  switch (part) {
    case Part::kVideoModel:
      return {"blocks.0.self_attn.q.weight", "casual_audio_encoder.encoder.final_linear.weight"};
    case Part::kTextEncoder:
      return {"token_embedding.weight", "blocks.0.attn.q.weight", "blocks.0.pos_embedding.embedding.weight"};
    case Part::kVae:
      return {"decoder.middle.0.residual.0.gamma"};
    case Part::kAudioEncoder:
      return {"feature_extractor.conv_layers.0.conv.weight", "encoder.layers.0.attention.q_proj.weight"};
  }
  return {};
}

std::string unreachable(const std::error_code& error) {
  if (error == std::errc::no_such_file_or_directory)
    return ": a link to a file that is not there; download that, or remove the link";
  return ": cannot be opened " + errno_text(error.value(), "see who may read it, or remove it");
}

}  // namespace

std::vector<WeightsFile> list_weights_files(const std::string& folder) {
  std::vector<std::string> paths;
  std::vector<WeightsFile> files;
  std::set<fs::path> searched;
  collect(folder, kDepth, searched, paths, files);
  std::sort(paths.begin(), paths.end());
  std::set<std::string> seen;  // behind links
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    if (error) {
      files.push_back({path, nullptr, path + unreachable(error)});
      continue;
    }
    if (!seen.insert(real.string()).second) continue;
    auto source = open_file_or_shards(path);
    files.push_back({path, source.ok() ? *source : nullptr, source.ok() ? "" : source.status().message()});
  }
  return files;
}

bool is_whole_part(const TensorSource& file, Part part) {
  Spelling spelling = find_spelling(file, part);
  if (spelling.original == nullptr) return false;
  std::set<std::string> names;
  for (const auto& [name, info] : file.tensors()) {
    if (name.starts_with(spelling.prefix)) names.insert(spelling.original(name.substr(spelling.prefix.size())));
  }
  std::vector<std::string> telling = telling_names(part);
  if (part == Part::kTextEncoder && names.contains("blocks.1.attn.q.weight"))
    telling.push_back("blocks.1.pos_embedding.embedding.weight");
  return std::all_of(telling.begin(), telling.end(), [&](const std::string& name) { return names.contains(name); });
}

std::vector<std::string> files_behind(const std::string& path) {
  std::vector<std::string> files;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    for (const fs::path& entry : folder_entries(path)) {
      if (is_weights_file(entry) || entry.string().ends_with(kShardIndex)) files.push_back(entry.string());
    }
  } else {
    files = split_parts(path);
    if (path.ends_with(kShardIndex)) {
      for (const std::string& shard : shards_of(path)) files.push_back((fs::path(path).parent_path() / shard).string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace liveavatar
