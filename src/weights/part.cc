#include "weights/part.h"

#include <filesystem>
#include <vector>

#include "core/folder.h"
#include "weights/file_names.h"
#include "weights/part_names.h"
#include "weights/scaled_source.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

// A source with other names. Tensors without a name are omitted.
class RenamedSource : public TensorSource {
 public:
  explicit RenamedSource(TensorSourcePtr source) : source_(std::move(source)) {}
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return source_->where(); }
  std::string metadata(const std::string& key) const override { return source_->metadata(key); }
  size_t scratch_bytes() const override { return source_->scratch_bytes(); }
  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    return source_->read_part(names_.at(name), part, target);
  }
  Status read_quantised(const std::string& name, TensorPart rows, uint8_t* quantised, float* scales) const override {
    return source_->read_quantised(names_.at(name), rows, quantised, scales);
  }

  Status rename(const Spelling& spelling) {
    for (const auto& [name, info] : source_->tensors()) {
      if (!name.starts_with(spelling.prefix)) continue;
      std::string original = spelling.original(name.substr(spelling.prefix.size()));
      if (original.empty()) continue;
      if (!tensors_.emplace(original, info).second)
        return corrupt(where() + ": " + name + " and " + names_[original] + " are the same tensor " + original +
                       "; download the file again");
      names_[original] = name;
    }
    return {};
  }

 private:
  TensorSourcePtr source_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> names_;  // the original's to the file's
};

std::string list_names(const std::vector<fs::path>& paths) {
  std::string names;
  for (const fs::path& path : paths) names += (names.empty() ? "" : ", ") + path.filename().string();
  return names;
}

}  // namespace

const char* part_name(Part part) {
  switch (part) {
    case Part::kVideoModel:
      return "video model";
    case Part::kTextEncoder:
      return "text encoder";
    case Part::kVae:
      return "video VAE";
    case Part::kAudioEncoder:
      return "audio encoder";
  }
  return "";
}

bool is_part(const TensorSource& file, Part part) { return find_spelling(file, part).original != nullptr; }

Expected<TensorSourcePtr> as_part(TensorSourcePtr file, Part part) {
  Spelling spelling = find_spelling(*file, part);
  if (spelling.original == nullptr) {
    std::string first = file->tensors().empty() ? "no tensor at all" : "for example " + file->tensors().begin()->first;
    return corrupt(file->where() + ": holds no " + part_name(part) + " (" + first + "); is it another model's file?");
  }
  LA_ASSIGN_OR_RETURN(TensorSourcePtr scaled, apply_scales(std::move(file)));
  auto renamed = std::make_shared<RenamedSource>(scaled);
  LA_RETURN_IF_ERROR(renamed->rename(spelling));
  return TensorSourcePtr(renamed);
}

Expected<TensorSourcePtr> open_file_or_shards(const std::string& path) {
  std::error_code ignored;
  if (path.ends_with(kShardIndex)) {
    std::string stem = fs::path(path).filename().string();
    stem.resize(stem.size() - kShardIndex.size());
    return open_safetensors_folder(folder_of(path).string(), stem);
  }
  if (!fs::is_directory(path, ignored)) return open_tensors(path);
  std::vector<fs::path> files, indices;
  LA_ASSIGN_OR_RETURN(std::vector<fs::path> entries, list_folder(path));
  for (const fs::path& entry : entries) {
    std::string name = entry.filename().string();
    if (name.ends_with(kShardIndex)) indices.push_back(name.substr(0, name.size() - kShardIndex.size()));
    if (is_weights_file(entry)) files.push_back(entry);
  }
  if (indices.size() == 1) return open_safetensors_folder(path, indices.front().string());
  if (indices.size() > 1)
    return invalid_argument(path + ": holds several models (" + list_names(indices) +
                            "); give the index that is meant");
  if (files.size() == 1) return open_tensors(files.front().string());
  if (files.empty()) return not_found(path + ": holds no .safetensors, .gguf or .pth; give the folder that does");
  return invalid_argument(path + ": holds several files (" + list_names(files) + "); give the one that is meant");
}

Expected<TensorSourcePtr> open_part(const std::string& path, Part part) {
  LA_ASSIGN_OR_RETURN(TensorSourcePtr file, open_file_or_shards(path));
  return as_part(std::move(file), part);
}

}  // namespace liveavatar
