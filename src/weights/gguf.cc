// GGUF: magic, version, counts, key-value pairs, a description of every tensor, then the data, aligned.
#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/rounding.h"
#include "weights/file_kind.h"
#include "weights/file_names.h"
#include "weights/gguf_blocks.h"
#include "weights/gguf_reader.h"
#include "weights/tensor_source.h"

namespace liveavatar {
namespace {

// Of Wan video models (the last three say nothing, or a packer's own word: then the tensors' names decide) and T5.
constexpr std::array<std::string_view, 6> kArchitectures{"wan", "t5", "t5encoder", "pig", "cow", ""};
constexpr size_t kLongestName = 1024;
constexpr const char* kShapeKey = "comfy.gguf.orig_shape.";  // of a tensor that was reshaped so that blocks fit

struct Entry {
  const GgufType* type = nullptr;
  uint64_t offset = 0;  // in the file
};

// Which part of a model in several files this is, from 0 on.
struct GgufSplit {
  int number = 0, count = 1;
};

class GgufSource : public TensorSource {
 public:
  explicit GgufSource(std::shared_ptr<const File> file) : file_(std::move(file)), reader_(file_) {}
  const GgufSplit& split() const { return split_; }
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return file_->path(); }
  Status read_part(const std::string& name, TensorPart part, void* target) const override;

  Status open();

 private:
  Status broken(const std::string& why) const {
    return corrupt(file_->path() + ": " + why + "; download or copy the file again");
  }
  bool read_key(const GgufKey& key);
  Status read_tensor();
  Status restore_shape(const std::string& name, Shape& shape) const;
  Status place(uint64_t data_begin);

  std::shared_ptr<const File> file_;
  GgufReader reader_;
  GgufSplit split_;
  uint64_t alignment_ = 32;
  std::string architecture_;
  std::map<std::string, Shape> original_shapes_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, Entry> entries_;
};

bool GgufSource::read_key(const GgufKey& key) {
  if (key.name == "general.architecture" && key.type == GgufValue::kString) {
    architecture_ = reader_.text();
  } else if (key.name == "general.alignment" && key.type == GgufValue::kU32) {
    alignment_ = reader_.number<uint32_t>();
  } else if (key.name == "split.no" && key.type == GgufValue::kU16) {
    split_.number = reader_.number<uint16_t>();
  } else if (key.name == "split.count" && key.type == GgufValue::kU16) {
    split_.count = reader_.number<uint16_t>();
  } else if (key.name.starts_with(kShapeKey) && key.count <= Shape::kMaxRank &&
             (key.is_array_of(GgufValue::kI32) || key.is_array_of(GgufValue::kI64))) {
    Shape shape;
    for (uint64_t i = 0; i < key.count; ++i)
      shape.push_back(key.item == GgufValue::kI32 ? reader_.number<int32_t>() : reader_.number<int64_t>());
    original_shapes_.emplace(key.name.substr(std::strlen(kShapeKey)), shape);
  } else {
    return false;
  }
  return true;
}

// Of a tensor that was reshaped so that blocks fit.
Status GgufSource::restore_shape(const std::string& name, Shape& shape) const {
  auto original = original_shapes_.find(name);
  if (original == original_shapes_.end()) return {};
  int64_t product = 1;
  for (int i = 0; i < original->second.rank(); ++i) {
    int64_t dim = original->second[i];
    if (dim < 1 || __builtin_mul_overflow(product, dim, &product)) return broken("tensor " + name + ": absurd shape");
  }
  if (product != shape.elements()) {
    return broken("tensor " + name + ": its original shape " + original->second.str() + " does not match its size");
  }
  shape = original->second;
  return {};
}

// One description: name, dimensions from the innermost outwards, type, offset in the data.
Status GgufSource::read_tensor() {
  std::string name = reader_.text();
  uint32_t rank = reader_.number<uint32_t>();
  LA_RETURN_IF_ERROR(reader_.status());
  const std::string what = "tensor " + name;
  if (name.size() > kLongestName) return broken("a tensor's name is absurdly long");
  if (rank > Shape::kMaxRank) return broken(what + " has " + std::to_string(rank) + " dimensions");
  std::array<uint64_t, Shape::kMaxRank> inner_first{};
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    inner_first[i] = reader_.number<uint64_t>();
    if (inner_first[i] == 0) return broken(what + " is empty");
    if (__builtin_mul_overflow(elements, inner_first[i], &elements) || elements > (uint64_t{1} << 46))
      return broken(what + ": absurd shape");
  }
  uint32_t id = reader_.number<uint32_t>();
  uint64_t offset = reader_.number<uint64_t>();
  LA_RETURN_IF_ERROR(reader_.status());
  const GgufType* type = gguf_type(id);
  if (type == nullptr) {
    return unsupported(file_->path() + ": " + what + " has GGUF type " + gguf_type_name(id) +
                       ", which this build does not read; take a file of " + kGgufTypes);
  }
  uint64_t row = rank == 0 ? 1 : inner_first[0];
  if (row % static_cast<uint64_t>(type->block_values) != 0) {
    return broken(what + ": rows of " + std::to_string(row) + " values do not fill blocks of " +
                  std::to_string(type->block_values) + " (" + type->name + ")");
  }
  TensorInfo info;
  for (uint32_t i = rank; i-- > 0;) info.shape.push_back(static_cast<int64_t>(inner_first[i]));
  info.dtype = type->dtype;
  info.stored = type->name;
  info.stored_bytes = static_cast<int64_t>(elements / static_cast<uint64_t>(type->block_values) * type->block_bytes);
  LA_RETURN_IF_ERROR(restore_shape(name, info.shape));
  info.loose_shape = rank == 4 && !original_shapes_.contains(name);  // five dimensions may have become four
  if (!tensors_.emplace(name, info).second) return broken("its header names " + what + " twice");
  entries_[name] = {type, offset};
  return {};
}

// Offsets from the front of the file, each wholly inside it, none over another.
Status GgufSource::place(uint64_t data_begin) {
  std::vector<std::pair<uint64_t, uint64_t>> spans;
  for (auto& [name, entry] : entries_) {
    uint64_t bytes = static_cast<uint64_t>(tensors_.at(name).stored_bytes);
    if (entry.offset % alignment_ != 0) {
      return broken("tensor " + name + " begins at " + std::to_string(entry.offset) + ", which is no multiple of " +
                    std::to_string(alignment_));
    }
    if (data_begin > file_->bytes() || entry.offset > file_->bytes() - data_begin ||
        bytes > file_->bytes() - data_begin - entry.offset)
      return broken("tensor " + name + " lies beyond the end: the file is truncated");
    entry.offset += data_begin;
    spans.emplace_back(entry.offset, entry.offset + bytes);
  }
  std::sort(spans.begin(), spans.end());
  for (size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].first < spans[i - 1].second) return broken("two of its tensors overlap");
  }
  return {};
}

Status GgufSource::open() {
  LA_ASSIGN_OR_RETURN(GgufCounts counts, read_gguf_start(reader_));
  LA_RETURN_IF_ERROR(read_gguf_pairs(reader_, counts.pairs, [this](const GgufKey& key) { return read_key(key); }));
  if (std::find(kArchitectures.begin(), kArchitectures.end(), architecture_) == kArchitectures.end()) {
    return invalid_argument(file_->path() + ": general.architecture is \"" + architecture_ +
                            "\", wanted \"wan\", \"t5\" or \"t5encoder\"; this is another kind of model");
  }
  if (alignment_ == 0 || (alignment_ & (alignment_ - 1)) != 0 || alignment_ > (1u << 20))
    return broken("general.alignment " + std::to_string(alignment_) + " is no power of two");
  for (uint64_t i = 0; i < counts.tensors; ++i) LA_RETURN_IF_ERROR(read_tensor());
  return place(round_up(reader_.at(), alignment_));
}

Status GgufSource::read_part(const std::string& name, TensorPart part, void* target) const {
  const Entry& entry = entries_.at(name);
  const GgufType& type = *entry.type;
  if (type.decode == nullptr) {
    return file_->read(entry.offset + static_cast<uint64_t>(part.first) * type.block_bytes, target,
                       static_cast<size_t>(part.count) * type.block_bytes);
  }
  // Whole blocks some at a time; of the first and the last maybe a part.
  std::array<uint8_t, 16 << 10> raw;
  float values[kLargestGgufBlock];
  float* to = static_cast<float*>(target);
  int64_t at_once = static_cast<int64_t>(raw.size() / type.block_bytes), end = part.first + part.count;
  int64_t last_block = ceil_div(end, type.block_values);
  for (int64_t block = part.first / type.block_values; block < last_block; block += at_once) {
    int64_t count = std::min(at_once, last_block - block);
    LA_RETURN_IF_ERROR(file_->read(entry.offset + static_cast<uint64_t>(block) * type.block_bytes, raw.data(),
                                   static_cast<size_t>(count) * type.block_bytes));
    for (int64_t i = 0; i < count; ++i) {
      type.decode(raw.data() + static_cast<size_t>(i) * type.block_bytes, values);
      int64_t first = (block + i) * type.block_values, low = std::max(first, part.first),
              high = std::min(first + type.block_values, end);
      to = std::copy(values + (low - first), values + (high - first), to);
    }
  }
  return {};
}

// The files of a split model as one.
class JoinedSource : public TensorSource {
 public:
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return where_; }
  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    return owners_.at(name)->read_part(name, part, target);
  }
  Status add(const TensorSourcePtr& source) {
    if (where_.empty()) where_ = source->where();
    for (const auto& [name, info] : source->tensors()) {
      if (!tensors_.emplace(name, info).second)
        return corrupt(source->where() + ": tensor " + name + " is in two parts; download the parts again");
      owners_[name] = source;
    }
    return {};
  }

 private:
  std::string where_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, TensorSourcePtr> owners_;
};

// From the name, if the header does not say it.
GgufSplit split_of(const std::string& path, const GgufSplit& header) {
  auto named = SplitName::parse(path);
  if (header.count > 1 || !named) return header;
  return {named->number - 1, named->count};
}

Expected<std::shared_ptr<GgufSource>> open_one(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::open(path));
  LA_RETURN_IF_ERROR(explain_wrong_file(*file));
  auto source = std::make_shared<GgufSource>(file);
  LA_RETURN_IF_ERROR(source->open());
  return source;
}

Expected<TensorSourcePtr> open_parts(const std::string& path, const GgufSplit& split,
                                     const std::shared_ptr<GgufSource>& given) {
  auto joined = std::make_shared<JoinedSource>();
  std::string what = path + ": is part " + std::to_string(split.number + 1) + " of " + std::to_string(split.count) +
                     " of a split model";
  auto named = SplitName::parse(path);
  if (!named || named->number != split.number + 1 || named->count != split.count)
    return not_found(what + "; give it its name <model>-0000n-of-0000m.gguf back, beside the others");
  for (int n = 0; n < split.count; ++n) {
    const std::string part = named->path_of(n + 1);
    auto source = n == split.number ? Expected<std::shared_ptr<GgufSource>>(given) : open_one(part);
    if (!source.ok() && source.status().code() == ErrorCode::kNotFound)
      return not_found(what + "; " + part + " is missing: download all parts into one folder");
    if (!source.ok()) return source.status();
    LA_RETURN_IF_ERROR(joined->add(*source));
  }
  return TensorSourcePtr(joined);
}

}  // namespace

Expected<TensorSourcePtr> open_gguf(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<GgufSource> source, open_one(path));
  GgufSplit split = split_of(path, source->split());
  if (split.count > 1) return open_parts(path, split, source);
  return TensorSourcePtr(source);
}

}  // namespace liveavatar
