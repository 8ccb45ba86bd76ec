// safetensors: 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}}, then the data.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "core/folder.h"
#include "core/json.h"
#include "weights/file_kind.h"
#include "weights/tensor_source.h"

namespace liveavatar {
namespace {

constexpr uint64_t kMaxHeaderBytes = 32u << 20;  // of 14B models in many shards: some hundred KiB
constexpr size_t kLongestName = 1024;
constexpr const char* kExponents = "F8_E8M0";  // scales of blocks (weights/block_formats.h), read as bytes

struct Entry {
  std::shared_ptr<const File> file;
  uint64_t offset = 0;
};

class SafetensorsSource : public TensorSource {
 public:
  explicit SafetensorsSource(std::string where) : where_(std::move(where)) {}
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return where_; }
  std::string metadata(const std::string& key) const override {
    auto text = metadata_.find(key);
    return text == metadata_.end() ? std::string() : text->second;
  }
  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    const Entry& entry = entries_.at(name);
    size_t item = dtype_bytes(tensors_.at(name).dtype);
    return entry.file->read(entry.offset + static_cast<uint64_t>(part.first) * item, target,
                            static_cast<size_t>(part.count) * item);
  }

  Status add_file(const std::string& path);

 private:
  Status add_tensor(const std::shared_ptr<const File>& file, uint64_t data_begin, const std::string& name,
                    const nlohmann::json& entry);
  void add_metadata(const nlohmann::json& texts);
  Status check_overlaps(const std::string& path, const nlohmann::json& header) const;
  std::string where_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

bool parse_dtype(const std::string& name, DType& out) {
  for (DType t : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64, DType::kI64, DType::kI32, DType::kI16,
                  DType::kI8, DType::kU8, DType::kBool, DType::kF8E4M3, DType::kF8E5M2}) {
    if (name == dtype_name(t)) {
      out = t;
      return true;
    }
  }
  if (name != kExponents) return false;
  out = DType::kU8;
  return true;
}

Status broken(const std::string& path, const std::string& why) {
  return corrupt(path + ": " + why + "; download or copy the file again");
}

Status SafetensorsSource::add_file(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::open(path));
  LA_RETURN_IF_ERROR(explain_wrong_file(*file));
  if (file->bytes() < 8) return broken(path, "not a safetensors file (" + std::to_string(file->bytes()) + " bytes)");
  uint64_t header_bytes = 0;
  LA_RETURN_IF_ERROR(file->read(0, &header_bytes, 8));
  if (header_bytes > kMaxHeaderBytes || header_bytes > file->bytes() - 8) {
    return broken(path, "not a safetensors file, or cut off in its header");
  }
  std::string text(header_bytes, '\0');
  LA_RETURN_IF_ERROR(file->read(8, text.data(), header_bytes));
  LA_ASSIGN_OR_RETURN(nlohmann::json header, parse_json(text, path + ": its header", JsonKeys::kOnce));
  if (!header.is_object()) return broken(path, "its header is not JSON");
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      add_metadata(entry);
    } else {
      LA_RETURN_IF_ERROR(add_tensor(file, 8 + header_bytes, name, entry));
    }
  }
  return check_overlaps(path, header);
}

Status SafetensorsSource::check_overlaps(const std::string& path, const nlohmann::json& header) const {
  struct Span {
    uint64_t begin, end;
    const std::string* name;
  };
  std::vector<Span> spans;
  for (const auto& item : header.items()) {
    auto found = tensors_.find(item.key());
    if (found == tensors_.end()) continue;
    const auto& [name, info] = *found;
    const uint64_t bytes = static_cast<uint64_t>(info.shape.elements()) * dtype_bytes(info.dtype);
    const uint64_t begin = entries_.at(name).offset;
    if (bytes > 0) spans.push_back({begin, begin + bytes, &name});
  }
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].begin < spans[i - 1].end)
      return broken(path, "tensors " + *spans[i - 1].name + " and " + *spans[i].name + " overlap");
  }
  return {};
}

void SafetensorsSource::add_metadata(const nlohmann::json& texts) {
  if (!texts.is_object()) return;
  for (const auto& [key, text] : texts.items()) {
    if (text.is_string()) metadata_[key] = text.get<std::string>();
  }
}

Status SafetensorsSource::add_tensor(const std::shared_ptr<const File>& file, uint64_t data_begin,
                                     const std::string& name, const nlohmann::json& entry) {
  if (name.size() > kLongestName) return broken(file->path(), "a tensor's name is absurdly long");
  const std::string what = "tensor " + name;
  TensorInfo info;
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets") ||
      !entry["dtype"].is_string() || !entry["shape"].is_array() || !entry["data_offsets"].is_array() ||
      entry["data_offsets"].size() != 2 || !entry["data_offsets"][0].is_number_unsigned() ||
      !entry["data_offsets"][1].is_number_unsigned()) {
    return broken(file->path(), what + ": its header entry is malformed");
  }
  if (!parse_dtype(entry["dtype"], info.dtype)) {
    return unsupported(file->path() + ": " + what + " has dtype " + entry["dtype"].get<std::string>() +
                       ", which this build does not read; convert it to BF16, F16 or F32");
  }
  if (entry["shape"].size() > Shape::kMaxRank) return broken(file->path(), what + ": too many dimensions");
  uint64_t elements = 1;
  for (const auto& d : entry["shape"]) {
    if (!d.is_number_unsigned() || d.get<uint64_t>() > (uint64_t{1} << 40))
      return broken(file->path(), what + ": absurd shape");
    info.shape.push_back(d.get<int64_t>());
    if (__builtin_mul_overflow(elements, d.get<uint64_t>(), &elements) || elements > (uint64_t{1} << 46)) {
      return broken(file->path(), what + ": absurd shape");
    }
  }
  uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
  if (end < begin || end - begin != elements * dtype_bytes(info.dtype)) {
    return broken(file->path(), what + ": its size does not match its shape " + info.shape.str());
  }
  if (end > file->bytes() - data_begin)
    return broken(file->path(), what + " lies beyond the end: the file is truncated");
  if (!tensors_.emplace(name, info).second) return broken(file->path(), what + " occurs in two shards");
  entries_[name] = {file, data_begin + begin};
  return {};
}

Expected<nlohmann::json> read_index(const std::string& path) {
  LA_ASSIGN_OR_RETURN(nlohmann::json index, read_json_file(path));
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    return broken(path, "not a shard index (no weight_map)");
  }
  return index["weight_map"];
}

}  // namespace

Expected<TensorSourcePtr> open_safetensors(const std::string& path) {
  auto source = std::make_shared<SafetensorsSource>(path);
  LA_RETURN_IF_ERROR(source->add_file(path));
  return TensorSourcePtr(source);
}

Expected<TensorSourcePtr> open_safetensors_folder(const std::string& dir, const std::string& stem) {
  const std::string single = dir + "/" + stem + ".safetensors", index_path = single + ".index.json";
  if (!may_exist(index_path)) {
    if (may_exist(single)) return open_safetensors(single);
    return not_found(dir + ": neither " + stem + ".safetensors nor its .index.json is there");
  }
  LA_ASSIGN_OR_RETURN(nlohmann::json weight_map, read_index(index_path));
  std::set<std::string> shards;
  for (const auto& [name, shard] : weight_map.items()) {
    if (!shard.is_string() || shard.get<std::string>().find('/') != std::string::npos) {
      return broken(index_path, "the shard of " + name + " is not a file name");
    }
    shards.insert(shard.get<std::string>());
  }
  auto source = std::make_shared<SafetensorsSource>(dir);
  for (const std::string& shard : shards) LA_RETURN_IF_ERROR(source->add_file(dir + "/" + shard));
  for (const auto& [name, shard] : weight_map.items()) {
    if (!source->tensors().contains(name)) {
      return corrupt(index_path + ": tensor " + name + " is listed, but not in " + shard.get<std::string>());
    }
  }
  return TensorSourcePtr(source);
}

}  // namespace liveavatar
