// GGUF: magic, version, counts, key-value pairs, a description of every tensor, then the data, aligned.
#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <vector>

#include "core/rounding.h"
#include "weights/file.h"
#include "weights/gguf_blocks.h"
#include "weights/tensor_source.h"

namespace liveavatar {
namespace {

constexpr uint64_t kMaxHeaderBytes = 256u << 20, kMaxTensors = 1u << 20, kMaxStringBytes = 1u << 20;
constexpr const char* kArchitecture = "wan";
constexpr const char* kPrefix = "model.diffusion_model.";  // of whole checkpoints; names without it are the original's
constexpr const char* kShapeKey = "comfy.gguf.orig_shape.";  // of a tensor that was reshaped so that blocks fit

// Value types of key-value pairs.
enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kFloat32,
  kBoolean,
  kString,
  kArray,
  kU64,
  kI64,
  kFloat64
};
size_t value_bytes(uint32_t type) {
  constexpr size_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < std::size(kBytes) ? kBytes[type] : 0;  // 0: strings, arrays, unknown
}

// Reads a file from the front. The first thing that is wrong sticks, and zeros come after it.
class Reader {
 public:
  explicit Reader(std::shared_ptr<const File> file) : file_(std::move(file)) {}

  template <typename T>
  T number() {
    T value{};
    bytes(&value, sizeof(T));
    return value;
  }
  std::string text() {
    uint64_t length = number<uint64_t>();
    if (length > kMaxStringBytes) fail("holds a text of " + std::to_string(length) + " bytes");
    std::string value(status_.ok() ? length : 0, '\0');
    bytes(value.data(), value.size());
    return value;
  }
  void skip(uint64_t count) {
    if (count > file_->bytes() - at_) return fail("ends within its header: the file is truncated");
    at_ += count;
  }
  void fail(const std::string& why) {
    if (status_.ok()) status_ = corrupt(file_->path() + ": " + why + "; download or copy the file again");
  }
  const Status& status() const { return status_; }
  uint64_t at() const { return at_; }

 private:
  void bytes(void* target, size_t count) {
    if (!status_.ok()) return;
    if (count > file_->bytes() - at_) return fail("ends within its header: the file is truncated");
    if (at_ + count > kMaxHeaderBytes) return fail("has an absurd header");
    // Through a window, since a header is thousands of small fields.
    if (at_ < begin_ || at_ + count > begin_ + window_.size()) {
      begin_ = at_;
      window_.resize(std::max<size_t>(count, std::min<uint64_t>(1 << 16, file_->bytes() - at_)));
      if (Status read = file_->read(begin_, window_.data(), window_.size()); !read.ok()) {
        status_ = read;
        return;
      }
    }
    std::memcpy(target, window_.data() + (at_ - begin_), count);
    at_ += count;
  }

  std::shared_ptr<const File> file_;
  Status status_;
  uint64_t at_ = 0, begin_ = 0;
  std::vector<char> window_;
};

struct Entry {
  const GgufType* type = nullptr;
  uint64_t offset = 0;  // in the file
};

class GgufSource : public TensorSource {
 public:
  explicit GgufSource(std::shared_ptr<const File> file) : file_(std::move(file)), reader_(file_) {}
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return file_->path(); }
  Status read_part(const std::string& name, TensorPart part, void* target) const override;

  Status open();

 private:
  Status broken(const std::string& why) const {
    return corrupt(file_->path() + ": " + why + "; download or copy the file again");
  }
  void read_pair();
  void read_value(const std::string& key, uint32_t type);
  Status read_tensor();
  Status place(uint64_t data_begin);

  std::shared_ptr<const File> file_;
  Reader reader_;
  uint64_t alignment_ = 32;
  std::string architecture_;
  std::map<std::string, Shape> original_shapes_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, Entry> entries_;
};

void GgufSource::read_value(const std::string& key, uint32_t type) {
  if (type == kString) {
    std::string value = reader_.text();
    if (key == "general.architecture") architecture_ = value;
  } else if (type == kU32 && key == "general.alignment") {
    alignment_ = reader_.number<uint32_t>();
  } else if (size_t bytes = value_bytes(type); bytes > 0) {
    reader_.skip(bytes);
  } else {
    reader_.fail("key " + key + " has a value of unknown type " + std::to_string(type));
  }
}

void GgufSource::read_pair() {
  std::string key = reader_.text();
  uint32_t type = reader_.number<uint32_t>();
  if (type != kArray) return read_value(key, type);
  uint32_t item = reader_.number<uint32_t>();
  uint64_t count = reader_.number<uint64_t>();
  if (key.starts_with(kShapeKey) && (item == kI32 || item == kI64) && count <= Shape::kMaxRank) {
    Shape shape;
    for (uint64_t i = 0; i < count; ++i)
      shape.push_back(item == kI32 ? reader_.number<int32_t>() : reader_.number<int64_t>());
    original_shapes_.emplace(key.substr(std::strlen(kShapeKey)), shape);
  } else if (size_t bytes = value_bytes(item); bytes > 0) {
    if (count > file_->bytes() / bytes) return reader_.fail("ends within its header: the file is truncated");
    reader_.skip(count * bytes);
  } else {  // texts; arrays of arrays occur nowhere
    for (uint64_t i = 0; i < count && reader_.status().ok(); ++i) read_value("", item);
  }
}

// One description: name, dimensions from the innermost outwards, type, offset in the data.
Status GgufSource::read_tensor() {
  std::string name = reader_.text();
  uint32_t rank = reader_.number<uint32_t>();
  LA_RETURN_IF_ERROR(reader_.status());
  const std::string what = "tensor " + name;
  if (rank > Shape::kMaxRank) return broken(what + " has " + std::to_string(rank) + " dimensions");
  std::array<uint64_t, Shape::kMaxRank> inner_first{};
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    inner_first[i] = reader_.number<uint64_t>();
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
  if (auto original = original_shapes_.find(name); original != original_shapes_.end()) {
    for (int i = 0; i < original->second.rank(); ++i) {
      if (original->second[i] < 1 || original->second[i] > (int64_t{1} << 40)) return broken(what + ": absurd shape");
    }
    if (original->second.elements() != static_cast<int64_t>(elements))
      return broken(what + ": its original shape " + original->second.str() + " does not match its size");
    info.shape = original->second;
  }
  if (name.starts_with(kPrefix)) name.erase(0, std::strlen(kPrefix));
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
  uint32_t magic = reader_.number<uint32_t>();
  LA_RETURN_IF_ERROR(reader_.status());
  if (magic != 0x46554747u) return broken("not a GGUF file");  // "GGUF"
  uint32_t version = reader_.number<uint32_t>();
  if (reader_.status().ok() && version != 2 && version != 3) {
    return unsupported(file_->path() + ": GGUF version " + std::to_string(version) +
                       ", this build reads 2 and 3 (little-endian); convert the file anew");
  }
  uint64_t tensors = reader_.number<uint64_t>(), pairs = reader_.number<uint64_t>();
  if (tensors > kMaxTensors || pairs > kMaxTensors) return broken("has an absurd header");
  for (uint64_t i = 0; i < pairs && reader_.status().ok(); ++i) read_pair();
  LA_RETURN_IF_ERROR(reader_.status());
  if (architecture_ != kArchitecture) {
    return invalid_argument(file_->path() + ": general.architecture is \"" + architecture_ + "\", wanted \"" +
                            kArchitecture + "\"; this is another kind of model");
  }
  if (alignment_ == 0 || (alignment_ & (alignment_ - 1)) != 0 || alignment_ > (1u << 20))
    return broken("general.alignment " + std::to_string(alignment_) + " is no power of two");
  for (uint64_t i = 0; i < tensors; ++i) LA_RETURN_IF_ERROR(read_tensor());
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

}  // namespace

Expected<TensorSourcePtr> open_gguf(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::open(path));
  auto source = std::make_shared<GgufSource>(file);
  LA_RETURN_IF_ERROR(source->open());
  return TensorSourcePtr(source);
}

}  // namespace liveavatar
