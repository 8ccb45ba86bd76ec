#include "weights/find_parts.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "core/errno_text.h"
#include "core/folder.h"
#include "core/text.h"
#include "weights/file_kind.h"
#include "weights/gguf_vocabulary.h"
#include "weights/hub_cache.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
constexpr const char* kTokenizerDir = "google/umt5-xxl";

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

struct PartRule {
  Part part;
  const char* flag;
  std::string PartRequest::*given;
  std::string PartPaths::*found;
  std::vector<std::string> original;  // the original's names in its folder, the first that is there counts
  const char* expected;               // for people
};

const std::vector<PartRule>& rules() {
  static const std::vector<PartRule> all{
      {Part::kVideoModel,
       "`dit_path`",
       &PartRequest::dit,
       &PartPaths::dit,
       {std::string(kDitStem) + ".safetensors.index.json", std::string(kDitStem) + ".safetensors"},
       "diffusion_pytorch_model*.safetensors, or one .gguf"},
      {Part::kTextEncoder,
       "`text_encoder`",
       &PartRequest::text_encoder,
       &PartPaths::text_encoder,
       {"models_t5_umt5-xxl-enc-bf16.pth", "models_t5_umt5-xxl-enc-bf16.safetensors"},
       "models_t5_umt5-xxl-enc-bf16.pth"},
      {Part::kVae,
       "`vae`",
       &PartRequest::vae,
       &PartPaths::vae,
       {"Wan2.1_VAE.pth", "Wan2.1_VAE.safetensors"},
       "Wan2.1_VAE.pth"},
      {Part::kAudioEncoder,
       "`audio_encoder`",
       &PartRequest::audio_encoder,
       &PartPaths::audio_encoder,
       {"wav2vec2-large-xlsr-53-english/model.safetensors", "wav2vec2-large-xlsr-53-english/pytorch_model.bin"},
       "wav2vec2-large-xlsr-53-english/model.safetensors"}};
  return all;
}

// Folders that were looked through, each once.
class Search {
 public:
  const std::vector<WeightsFile>& files(const std::string& folder) {
    auto [it, is_new] = folders_.try_emplace(folder);
    if (is_new) it->second = list_weights_files(folder);
    return it->second;
  }

 private:
  std::map<std::string, std::vector<WeightsFile>> folders_;
};

// model.safetensors and pytorch_model.bin, x.safetensors and x.pth in one folder are the same weights twice.
std::string same_weights_key(const std::string& path) {
  fs::path file(path);
  std::string stem = file.stem().string();
  if (file.extension() == ".gguf") return path;
  return (file.parent_path() / (stem == "pytorch_model" ? "model" : stem)).string();
}

std::vector<std::string> candidates(const std::vector<WeightsFile>& files, Part part) {
  std::map<std::string, std::string> by_key;
  for (const WeightsFile& file : files) {
    if (file.source == nullptr || !is_whole_part(*file.source, part)) continue;
    std::string& path = by_key[same_weights_key(file.path)];
    if (path.empty() || file.path.ends_with(".safetensors")) path = file.path;
  }
  std::vector<std::string> paths;
  for (const auto& [key, path] : by_key) paths.push_back(path);
  return paths;
}

std::string inside(const std::string& path, const std::string& folder) {
  return fs::path(path).lexically_relative(folder).string();
}

// The file of a part in a folder; empty: none.
Expected<std::string> find_in_folder(const PartRule& rule, const std::string& folder, const std::string& flag,
                                     Search& search) {
  for (const std::string& name : rule.original) {
    if (may_exist(fs::path(folder) / name)) return (fs::path(folder) / name).string();
  }
  std::vector<std::string> paths = candidates(search.files(folder), rule.part);
  if (paths.size() < 2) return paths.empty() ? std::string() : paths.front();
  for (std::string& path : paths) path = inside(path, folder);
  return invalid_argument(flag + " " + folder + " holds several files that are the " + part_name(rule.part) + " (" +
                          join(paths) + "); choose one with " + rule.flag + " FILE");
}

// Empty: it is missing.
Expected<std::string> find_part(const PartRule& rule, const PartRequest& request, Search& search) {
  const std::string& given = request.*rule.given;
  if (given.empty()) {
    if (request.folder.empty()) return std::string();
    return find_in_folder(rule, request.folder, "`checkpoint_dir`", search);
  }
  if (!may_exist(given)) return not_found(std::string(rule.flag) + " " + given + ": no such file or folder");
  if (!is_folder(given)) return given;
  LA_ASSIGN_OR_RETURN(std::string found, find_in_folder(rule, given, rule.flag, search));
  if (!found.empty()) return found;
  return not_found(std::string(rule.flag) + " " + given + ": no file in this folder is a " + part_name(rule.part));
}

bool holds_tokenizer(const std::string& path) {
  if (path.empty() || is_folder(path)) return false;
  if (path.ends_with(".gguf")) return read_gguf_vocabulary(path).ok();
  if (!path.ends_with(".safetensors")) return false;
  auto source = open_file_or_shards(path);
  if (!source.ok()) return false;
  return std::any_of((*source)->tensors().begin(), (*source)->tensors().end(), [](const auto& tensor) {
    return tensor.first == "spiece_model" || tensor.first.ends_with(".spiece_model");
  });
}

// Empty: none.
std::string find_tokenizer(const PartRequest& request, const std::string& text_encoder) {
  if (may_exist(fs::path(request.folder) / kTokenizerDir / "spiece.model") && !request.folder.empty())
    return (fs::path(request.folder) / kTokenizerDir).string();
  if (holds_tokenizer(text_encoder)) return text_encoder;
  std::vector<fs::path> folders;
  if (!text_encoder.empty()) {
    fs::path beside = folder_of(text_encoder), above = beside == "." ? fs::path("..") : beside.parent_path();
    folders.insert(folders.end(), {beside, beside / kTokenizerDir, above / "tokenizer"});
  }
  if (!request.folder.empty()) {
    fs::path folder = request.folder;
    folders.insert(folders.end(), {folder, folder / "tokenizer", folder / "text_encoders", folder / "clip"});
  }
  for (const fs::path& folder : folders) {
    if (!may_exist(folder / "spiece.model")) continue;
    return may_exist(folder / "tokenizer.json") ? folder.string() : (folder / "spiece.model").string();
  }
  return "";
}

Expected<std::string> resolve_tokenizer(const PartRequest& request, const std::string& text_encoder) {
  if (request.tokenizer.empty()) return find_tokenizer(request, text_encoder);
  const std::string& given = request.tokenizer;
  if (!may_exist(given)) return not_found("`tokenizer` " + given + ": no such file or folder");
  if (!is_folder(given) || may_exist(given + "/spiece.model")) return given;
  if (may_exist(given + "/" + kTokenizerDir + "/spiece.model")) return given + "/" + kTokenizerDir;
  return not_found("`tokenizer` " + given + ": this folder holds no spiece.model");
}

// config.json in a folder if it is there and has this key, or cannot be read: then whoever reads it says why.
bool has_config(const fs::path& folder, const char* key) {
  if (!may_exist(folder / "config.json")) return false;
  auto json = read_json_file((folder / "config.json").string());
  return !json.ok() || (json->is_object() && json->contains(key));
}

std::string dit_config(const PartRequest& request, const std::string& dit) {
  for (const fs::path& folder : {folder_of(dit), fs::path(request.folder)}) {
    if (!folder.empty() && has_config(folder, "ffn_dim")) return (folder / "config.json").string();
  }
  return "";
}

std::string audio_config_dir(const std::string& audio_encoder) {
  fs::path folder = folder_of(audio_encoder);
  return has_config(folder, "num_hidden_layers") ? folder.string() : "";
}

Status check_folder(const PartRequest& request) {
  if (request.folder.empty()) return {};
  const std::string named = "`checkpoint_dir` " + request.folder;
  std::error_code error;
  const fs::file_type type = fs::status(request.folder, error).type();
  if (type == fs::file_type::directory) return {};
  if (type == fs::file_type::not_found) return not_found(named + ": no such folder");
  if (type != fs::file_type::none) return invalid_argument(named + ": is a file; give the folder that holds it");
  return io_error(named + ": cannot be read " + errno_text(error.value(), "see who may read it, or choose another"));
}

// Unreadable files that might be the missing part.
std::string unreadable(const PartRequest& request, Search& search) {
  std::string text;
  if (request.folder.empty()) return text;
  for (const WeightsFile& file : search.files(request.folder)) {
    if (!file.problem.empty()) text += "; not readable: " + file.problem;
  }
  return text;
}

Status missing_parts(const PartRequest& request, const std::vector<std::string>& missing, Search& search) {
  std::string command = download_command(request.folder);
  std::string where = request.folder.empty() ? "missing: " : "`checkpoint_dir` " + request.folder + " lacks ";
  return not_found(where + join(missing) + (command.empty() ? "" : "; complete the download: " + command) +
                   unreadable(request, search));
}

Expected<PartPaths> find(const PartRequest& request, Search& search, bool all) {
  LA_RETURN_IF_ERROR(check_folder(request));
  PartPaths paths;
  std::vector<std::string> missing;
  for (const PartRule& rule : rules()) {
    bool is_dit = rule.part == Part::kVideoModel;
    if ((is_dit && !request.with_dit) || (!is_dit && !all)) continue;
    LA_ASSIGN_OR_RETURN(paths.*rule.found, find_part(rule, request, search));
    if ((paths.*rule.found).empty())
      missing.push_back("the " + std::string(part_name(rule.part)) + " (" + rule.expected + "; or " + rule.flag +
                        " FILE)");
  }
  if (all) {
    LA_ASSIGN_OR_RETURN(paths.tokenizer, resolve_tokenizer(request, paths.text_encoder));
    if (paths.tokenizer.empty()) missing.push_back("the tokenizer (google/umt5-xxl/spiece.model; or `tokenizer` FILE)");
  }
  if (!missing.empty()) return missing_parts(request, missing, search);
  paths.dit_config = dit_config(request, paths.dit);
  if (all) paths.audio_config_dir = audio_config_dir(paths.audio_encoder);
  return paths;
}

void describe(const TensorSource& source, PartReport& report) {
  std::set<std::string> dtypes;
  for (const auto& [name, info] : source.tensors()) {
    ++report.tensors;
    report.parameters += info.shape.elements();
    report.bytes += info.stored != nullptr ? info.stored_bytes
                                           : info.shape.elements() * static_cast<int64_t>(dtype_bytes(info.dtype));
    dtypes.insert(info.stored != nullptr ? info.stored : dtype_name(info.dtype));
  }
  report.dtypes = join({dtypes.begin(), dtypes.end()});
}

// Names that only adapters have.
bool is_adapter(const TensorSource& source) {
  for (const auto& [name, info] : source.tensors()) {
    for (const char* mark : {"lora_A", "lora_down", "lora.down", "lora_linear_layer", "hada_w1", "lokr_w1"}) {
      if (name.find(mark) != std::string::npos) return true;
    }
    for (const char* ending : {".diff", ".diff_b", ".diff_m", ".set_weight"}) {
      if (name.ends_with(ending)) return true;
    }
  }
  return false;
}

}  // namespace

Expected<PartPaths> find_parts(const PartRequest& request) {
  Search search;
  return find(request, search, true);
}

Expected<PartPaths> find_video_model(const PartRequest& request) {
  Search search;
  return find(request, search, false);
}

std::vector<PartReport> inspect_parts(const PartRequest& request) {
  Search search;
  std::vector<PartReport> parts;
  std::string text_encoder;
  for (const PartRule& rule : rules()) {
    PartReport report{part_name(rule.part)};
    auto found = find_part(rule, request, search);
    if (found.ok()) report.path = *found;
    if (!found.ok()) {
      report.problem = found.status().message();
    } else if (found->empty()) {
      report.problem = "missing: " + std::string(rule.expected) + "; or give " + rule.flag + " FILE";
    } else if (auto source = open_file_or_shards(*found); source.ok()) {
      describe(**source, report);
      if (auto as = as_part(*source, rule.part); !as.ok()) report.problem = as.status().message();
    } else {
      report.problem = source.status().message();
    }
    if (rule.part == Part::kTextEncoder) text_encoder = report.path;
    parts.push_back(report);
  }
  PartReport tokenizer{"tokenizer"};
  auto found = resolve_tokenizer(request, text_encoder);
  if (found.ok()) tokenizer.path = *found;
  if (!found.ok()) tokenizer.problem = found.status().message();
  if (found.ok() && found->empty())
    tokenizer.problem = "missing: google/umt5-xxl/spiece.model; or give `tokenizer` FILE";
  parts.push_back(tokenizer);
  return parts;
}

PartReport inspect_file(const std::string& path) {
  PartReport report{"", path};
  auto source = open_file_or_shards(path);
  if (!source.ok()) {
    report.problem = source.status().message();
    return report;
  }
  describe(**source, report);
  for (const PartRule& rule : rules()) {
    if (is_whole_part(**source, rule.part)) report.part = part_name(rule.part);
  }
  if (report.part.empty() && is_adapter(**source)) report.part = "LoRA";
  if (report.part == "LoRA") return report;
  // Also what holds only some of a part, a shard say, must be readable as it.
  for (const PartRule& rule : rules()) {
    bool other = !report.part.empty() && report.part != part_name(rule.part);
    if (other || !is_part(**source, rule.part)) continue;
    if (auto part = as_part(*source, rule.part); !part.ok()) report.problem = part.status().message();
  }
  return report;
}

}  // namespace liveavatar
