#include "weights/part_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <regex>
#include <set>

#include "weights/file_kind.h"
#include "weights/part_names.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kIndex = ".safetensors.index.json";
constexpr int kDepth = 4;  // of folders inside a folder
constexpr std::array kEndings{".safetensors", ".gguf", ".pth", ".pt", ".bin"};
// Of a ComfyUI tree, without a part of this kind of checkpoint.
constexpr std::array kOtherFolders{"loras", "lora", "controlnet", "embeddings", "clip_vision", "upscale_models"};

bool is_weights(const fs::path& path) {
  return std::find(kEndings.begin(), kEndings.end(), path.extension().string()) != kEndings.end();
}

// s2v-00002-of-00003.gguf: read with its first part.
bool is_later_split(const std::string& name) {
  static const std::regex pattern(".*-([0-9]{5})-of-[0-9]{5}\\.gguf");
  std::smatch match;
  return std::regex_match(name, match, pattern) && match[1] != "00001";
}

bool is_searched(const fs::path& folder) {
  std::string name = folder.filename().string();
  return !name.starts_with(".") && std::find(kOtherFolders.begin(), kOtherFolders.end(), name) == kOtherFolders.end();
}

// All parts of a split GGUF, where `path` is its first.
std::vector<std::string> split_parts(const std::string& path) {
  static const std::regex pattern("(.*-)00001(-of-)([0-9]{5})\\.gguf");
  std::smatch match;
  std::vector<std::string> parts{path};
  if (!std::regex_match(path, match, pattern)) return parts;
  for (int part = 2; part <= std::stoi(match[3]); ++part) {
    char number[16];
    std::snprintf(number, sizeof(number), "%05d", part);
    parts.push_back(match[1].str() + number + match[2].str() + match[3].str() + ".gguf");
  }
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

void collect(const fs::path& folder, int depth, std::vector<std::string>& paths) {
  std::error_code error;
  std::vector<fs::path> files, folders;
  std::set<std::string> shards;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_directory(ignored)) {
      folders.push_back(entry->path());
    } else if (std::string name = entry->path().filename().string(); name.ends_with(kIndex)) {
      shards.merge(shards_of(entry->path().string()));
      paths.push_back(entry->path().string());
    } else if (is_weights(entry->path()) && !is_later_split(name)) {
      files.push_back(entry->path());
    }
  }
  for (const fs::path& file : files) {
    if (!shards.contains(file.filename().string())) paths.push_back(file.string());
  }
  for (const fs::path& inside : folders) {
    if (depth > 0 && is_searched(inside)) collect(inside, depth - 1, paths);
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

}  // namespace

std::vector<WeightsFile> list_weights_files(const std::string& folder) {
  std::vector<std::string> paths;
  collect(folder, kDepth, paths);
  std::sort(paths.begin(), paths.end());
  std::vector<WeightsFile> files;
  std::set<std::string> seen;  // behind links
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (!seen.insert(fs::canonical(path, ignored).string()).second) continue;
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
    for (const auto& entry : fs::directory_iterator(path, error)) {
      if (is_weights(entry.path()) || entry.path().string().ends_with(kIndex)) files.push_back(entry.path().string());
    }
  } else {
    files = split_parts(path);
    if (path.ends_with(kIndex)) {
      for (const std::string& shard : shards_of(path)) files.push_back((fs::path(path).parent_path() / shard).string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace liveavatar
