// Adapter files: finding the file, its alpha, and the text report of a merge.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "core/folder.h"
#include "weights/lora.h"
#include "weights/lora_names.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
constexpr const char* kLiveAvatarStem = "liveavatar";
constexpr const char* kPeftStem = "adapter_model";

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// The adapter in a folder; empty: none.
Expected<std::string> file_in_folder(const std::string& folder) {
  for (const char* name : {"liveavatar.safetensors", "adapter_model.safetensors", "pytorch_lora_weights.safetensors",
                           "adapter_model.bin"}) {
    if (is_file(fs::path(folder) / name)) return (fs::path(folder) / name).string();
  }
  std::vector<std::string> files;
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return std::string();
  LA_ASSIGN_OR_RETURN(std::vector<fs::path> entries, list_folder(folder));
  for (const fs::path& entry : entries) {
    if (entry.extension() == ".safetensors" && is_file(entry)) files.push_back(entry.string());
  }
  if (files.size() < 2) return files.empty() ? std::string() : files.front();
  return invalid_argument("LoRA " + folder + ": holds several adapters (" + fs::path(files[0]).filename().string() +
                          ", " + fs::path(files[1]).filename().string() + ", ...); name the file");
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", value);
  return text;
}

template <typename T>
std::string range_text(const LoraReport::Range<T>& range) {
  const std::string low = number(static_cast<double>(range.low)), high = number(static_cast<double>(range.high));
  return low == high ? low : low + " to " + high;
}

std::string counted(int count, const char* one, const char* many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

}  // namespace

Expected<LoraFiles> find_lora(const std::string& path) {
  LoraFiles files;
  files.weights = path;
  if (!is_file(path)) {
    LA_ASSIGN_OR_RETURN(files.weights, file_in_folder(path));
    if (files.weights.empty()) {
      return not_found("LoRA " + path + ": no such file, nor a folder with liveavatar.safetensors or " +
                       "adapter_model.safetensors; a hub name must be downloaded first");
    }
  }
  const fs::path config = fs::path(files.weights).parent_path() / "adapter_config.json";
  if (is_file(config)) files.config = config.string();
  return files;
}

Expected<LoraAdapter> open_lora(const std::string& path) {
  LA_ASSIGN_OR_RETURN(LoraFiles files, find_lora(path));
  LoraAdapter adapter;
  LA_ASSIGN_OR_RETURN(adapter.source, open_tensors(files.weights));
  const auto& tensors = adapter.source->tensors();
  const bool peft_names =
      std::any_of(tensors.begin(), tensors.end(), [](const auto& t) { return t.first.starts_with(kPeftPrefix); });
  // A folder of downloads may hold another adapter's config.
  if (!files.config.empty() && (peft_names || fs::path(files.weights).stem() == kPeftStem)) {
    LA_ASSIGN_OR_RETURN(adapter.peft, read_peft_config(files.config));
  }
  return adapter;
}

bool is_live_avatar_lora(const LoraAdapter& adapter) {
  if (adapter.peft.has_value()) return false;
  const bool its_file = fs::path(adapter.source->where()).stem() == kLiveAvatarStem;
  bool audio = false;
  for (const auto& [tensor, info] : adapter.source->tensors()) {
    const LoraName name = parse_lora_name(tensor);
    if (name.role == LoraRole::kAlpha) return false;
    if (name.role == LoraRole::kValues) continue;
    const bool factor = tensor.find(".lora_A.") != std::string::npos || tensor.find(".lora_B.") != std::string::npos;
    if (!factor || !(tensor.starts_with(kPeftPrefix) || (its_file && !has_lora_prefix(tensor)))) return false;
    audio = audio || name.module.find("audio_injector.") != std::string::npos;
  }
  return audio;
}

template <typename T>
void LoraReport::Range<T>::add(T value) {
  low = empty ? value : std::min(low, value);
  high = empty ? value : std::max(high, value);
  empty = false;
}
template struct LoraReport::Range<int64_t>;
template struct LoraReport::Range<double>;

std::string LoraReport::line() const {
  std::string text = where + ": ";
  if (merged > 0) {
    text += "merged " + counted(merged, "matrix", "matrices");
    if (!rank.empty) text += ", rank " + range_text(rank);
    text += alpha.empty ? ", no alpha" : ", alpha " + range_text(alpha);
    text += " (factor " + range_text(factor) + "), ";
  }
  if (added > 0) text += "added " + counted(added, "difference", "differences") + ", ";
  if (overwritten > 0) text += "replaced " + counted(overwritten, "tensor", "tensors") + ", ";
  return text + "strength " + number(strength);
}

}  // namespace liveavatar
