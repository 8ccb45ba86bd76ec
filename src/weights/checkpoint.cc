#include "weights/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "weights/hub_cache.h"
#include "weights/part.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
constexpr const char* kTextStem = "models_t5_umt5-xxl-enc-bf16";
constexpr const char* kVaeStem = "Wan2.1_VAE";
constexpr const char* kTokenizerDir = "google/umt5-xxl";
constexpr const char* kAudioDir = "wav2vec2-large-xlsr-53-english";

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// <stem>.pth or <stem>.safetensors; empty: neither.
std::string weights_file(const std::string& dir, const std::string& stem) {
  for (const char* ending : {".pth", ".safetensors"}) {
    if (exists(dir + "/" + stem + ending)) return dir + "/" + stem + ending;
  }
  return "";
}

std::string audio_weights(const std::string& dir) {
  return exists(dir + "/model.safetensors") ? dir + "/model.safetensors" : dir + "/pytorch_model.bin";
}

bool has_dit_safetensors(const std::string& dir) {
  return exists(dir + "/" + kDitStem + ".safetensors") || exists(dir + "/" + kDitStem + ".safetensors.index.json");
}

// The GGUF files of a folder, in order.
std::vector<std::string> gguf_files(const std::string& dir) {
  std::vector<std::string> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(dir, ignored)) {
    if (entry.path().extension() == ".gguf") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// The GGUF that holds the video model: the one asked for, or one that stands in for the safetensors. Empty: none.
Expected<std::string> choose_gguf(const std::string& dir, const std::string& asked) {
  if (!asked.empty()) {
    if (!exists(asked)) return not_found("--gguf " + asked + ": no such file");
    return asked;
  }
  if (has_dit_safetensors(dir)) return std::string();
  std::vector<std::string> files = gguf_files(dir);
  if (files.size() < 2) return files.empty() ? std::string() : files.front();
  std::string names;
  for (const std::string& f : files) names += (names.empty() ? "" : ", ") + fs::path(f).filename().string();
  return invalid_argument("--ckpt_dir " + dir + " holds several GGUF files (" + names + "); choose one with --gguf");
}

PartReport report_part(const std::string& part, const std::string& path, const Expected<TensorSourcePtr>& source) {
  PartReport report;
  report.part = part;
  report.path = path;
  if (!source.ok()) {
    report.problem = source.status().message();
    return report;
  }
  std::set<std::string> dtypes;
  for (const auto& [name, info] : (*source)->tensors()) {
    ++report.tensors;
    report.parameters += info.shape.elements();
    report.bytes += info.stored != nullptr ? info.stored_bytes
                                           : info.shape.elements() * static_cast<int64_t>(dtype_bytes(info.dtype));
    dtypes.insert(info.stored != nullptr ? info.stored : dtype_name(info.dtype));
  }
  for (const std::string& d : dtypes) report.dtypes += (report.dtypes.empty() ? "" : ", ") + d;
  return report;
}

}  // namespace

Expected<CheckpointPaths> find_video_model(const std::string& dir, const std::string& gguf) {
  CheckpointPaths paths;
  paths.dit_dir = dir;
  LA_ASSIGN_OR_RETURN(paths.dit_gguf, choose_gguf(dir, gguf));
  return paths;
}

Expected<CheckpointPaths> find_checkpoint(const std::string& dir, const std::string& gguf, bool with_dit) {
  std::error_code ignored;
  if (!fs::is_directory(dir, ignored)) return not_found("--ckpt_dir " + dir + ": no such folder");
  LA_ASSIGN_OR_RETURN(CheckpointPaths paths, find_video_model(dir, gguf));
  std::string missing;
  auto need = [&](bool there, const std::string& what) {
    if (!there) missing += (missing.empty() ? "" : ", ") + what;
  };
  need(!with_dit || exists(dir + "/config.json"), "config.json");
  need(!with_dit || !paths.dit_gguf.empty() || has_dit_safetensors(dir),
       std::string(kDitStem) + ".safetensors (or its .index.json and shards, or one .gguf)");
  paths.text_weights = weights_file(dir, kTextStem);
  need(!paths.text_weights.empty(), std::string(kTextStem) + ".pth");
  paths.tokenizer_dir = dir + "/" + kTokenizerDir;
  need(exists(paths.tokenizer_dir + "/spiece.model"), std::string(kTokenizerDir) + "/spiece.model");
  paths.vae_weights = weights_file(dir, kVaeStem);
  need(!paths.vae_weights.empty(), std::string(kVaeStem) + ".pth");
  paths.audio_dir = dir + "/" + kAudioDir;
  need(exists(paths.audio_dir + "/config.json"), std::string(kAudioDir) + "/config.json");
  need(exists(audio_weights(paths.audio_dir)), std::string(kAudioDir) + "/model.safetensors (or pytorch_model.bin)");
  if (!missing.empty()) {
    std::string command = download_command(dir);
    return not_found("--ckpt_dir " + dir + " lacks " + missing + "; download the whole checkpoint folder" +
                     (command.empty() ? "" : ": " + command));
  }
  return paths;
}

Expected<TensorSourcePtr> open_dit_weights(const CheckpointPaths& paths) {
  auto file = paths.dit_gguf.empty() ? open_safetensors_folder(paths.dit_dir, kDitStem) : open_gguf(paths.dit_gguf);
  if (!file.ok()) return file.status();
  return as_part(*std::move(file), Part::kVideoModel);
}

std::vector<PartReport> inspect_checkpoint(const std::string& dir, const std::string& gguf) {
  std::vector<PartReport> parts;
  auto chosen = choose_gguf(dir, gguf);
  std::string path = chosen.ok() && !chosen->empty() ? *chosen : dir + "/" + kDitStem + "*.safetensors";
  parts.push_back(report_part("video model", path,
                              chosen.ok() ? open_dit_weights({.dit_dir = dir, .dit_gguf = *chosen})
                                          : Expected<TensorSourcePtr>(chosen.status())));
  std::string text = weights_file(dir, kTextStem), vae = weights_file(dir, kVaeStem);
  if (text.empty()) text = dir + "/" + kTextStem + ".pth";
  if (vae.empty()) vae = dir + "/" + kVaeStem + ".pth";
  parts.push_back(report_part("text encoder", text, open_tensors(text)));
  parts.push_back(report_part("video VAE", vae, open_tensors(vae)));
  std::string audio = audio_weights(dir + "/" + kAudioDir);
  parts.push_back(report_part("audio encoder", audio, open_tensors(audio)));
  PartReport tokenizer;
  tokenizer.part = "tokenizer";
  tokenizer.path = dir + "/" + kTokenizerDir + "/spiece.model";
  if (!exists(tokenizer.path)) tokenizer.problem = tokenizer.path + ": missing";
  parts.push_back(tokenizer);
  return parts;
}

}  // namespace liveavatar
