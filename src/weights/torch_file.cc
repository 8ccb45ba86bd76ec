// PyTorch's zip archives: <folder>/data.pkl describes the tensors, <folder>/data/<key> holds each storage.
#include <algorithm>
#include <cstring>
#include <vector>

#include "weights/file_kind.h"
#include "weights/pickle.h"
#include "weights/tensor_source.h"
#include "weights/zip_archive.h"

namespace liveavatar {
namespace {

constexpr uint64_t kMaxPickleBytes = 256u << 20;
constexpr int kMaxDepth = 64;
constexpr int64_t kMaxVisited = 50'000'000;  // a list that contains itself twice would be visited without end

struct Placed {
  PickledTensor tensor;
  uint64_t data_offset = 0;  // of the storage in the file
  bool contiguous = true;
};

bool is_contiguous(const PickledTensor& t) {
  int64_t expected = 1;
  for (size_t i = t.shape.size(); i-- > 0;) {
    if (t.shape[i] != 1 && t.strides[i] != expected) return false;
    expected *= t.shape[i];
  }
  return true;
}

// Of element n in row-major order, from the tensor's first.
int64_t place_of(const PickledTensor& t, int64_t n) {
  int64_t at = 0;
  for (size_t i = t.shape.size(); i-- > 0; n /= t.shape[i]) at += n % t.shape[i] * t.strides[i];
  return at;
}

class TorchSource : public TensorSource {
 public:
  TorchSource(std::shared_ptr<const File> file) : file_(std::move(file)) {}
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return file_->path(); }
  size_t scratch_bytes() const override { return scratch_bytes_; }

  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    const Placed& p = placed_.at(name);
    const TensorInfo& info = tensors_.at(name);
    size_t item = dtype_bytes(info.dtype);
    if (part.count == 0) return {};
    if (p.contiguous) {
      uint64_t begin = p.data_offset + static_cast<uint64_t>(p.tensor.offset + part.first) * item;
      return file_->read(begin, target, static_cast<size_t>(part.count) * item);
    }
    return gather(p, item, part, target);
  }

  Status collect(const PickleValue& value, const std::string& name, int depth) {
    using Kind = PickleValue::Kind;
    if (depth > kMaxDepth || ++visited_ > kMaxVisited) return refuse("it is nested absurdly deep");
    if (value.kind == Kind::kTensor) return place(value.tensor, name);
    auto join = [&](const std::string& key) { return name.empty() ? key : name + "/" + key; };
    for (const auto& [key, item] : value.pairs) {
      std::string text = key->kind == Kind::kString ? key->text
                         : key->kind == Kind::kInt  ? std::to_string(key->integer)
                                                    : "?";
      LA_RETURN_IF_ERROR(collect(*item, join(text), depth + 1));
    }
    for (size_t i = 0; i < value.items.size(); ++i)
      LA_RETURN_IF_ERROR(collect(*value.items[i], join(std::to_string(i)), depth + 1));
    return {};
  }

  void set_entries(std::map<std::string, ZipEntry> entries, std::string folder) {
    entries_ = std::move(entries);
    folder_ = std::move(folder);
  }

  // {"state_dict": {...}} and similar: a wrapper that all names start with is removed.
  void unwrap() {
    size_t slash = tensors_.empty() ? std::string::npos : tensors_.begin()->first.find('/');
    if (slash == std::string::npos) return;
    std::string prefix = tensors_.begin()->first.substr(0, slash + 1);
    std::map<std::string, TensorInfo> tensors;
    std::map<std::string, Placed> placed;
    for (const auto& [name, info] : tensors_) {
      if (!name.starts_with(prefix)) return;
      tensors[name.substr(prefix.size())] = info;
      placed[name.substr(prefix.size())] = placed_.at(name);
    }
    tensors_ = std::move(tensors);
    placed_ = std::move(placed);
  }

 private:
  // A tensor that lies in its storage with other strides, element after element. Of the storage only what the part
  // reaches is read.
  Status gather(const Placed& p, size_t item, TensorPart part, void* target) const {
    int64_t first = place_of(p.tensor, part.first), last = first;
    for (int64_t n = part.first; n < part.first + part.count; ++n) {
      int64_t at = place_of(p.tensor, n);
      first = std::min(first, at);
      last = std::max(last, at);
    }
    std::vector<char> span(static_cast<size_t>(last - first + 1) * item);
    uint64_t begin = p.data_offset + static_cast<uint64_t>(p.tensor.offset + first) * item;
    LA_RETURN_IF_ERROR(file_->read(begin, span.data(), span.size()));
    char* to = static_cast<char*>(target);
    for (int64_t n = part.first; n < part.first + part.count; ++n, to += item)
      std::memcpy(to, span.data() + static_cast<size_t>(place_of(p.tensor, n) - first) * item, item);
    return {};
  }

  Status refuse(const std::string& why) const { return corrupt(file_->path() + ": refused: " + why); }

  // Numbers in the pickle are untrusted: all are checked against the actual storage.
  Status place(const PickledTensor& t, const std::string& name) {
    const std::string what = "tensor " + name + ": ";
    if (t.storage_key.empty() || t.storage_key.find('/') != std::string::npos ||
        t.storage_key.find("..") != std::string::npos) {
      return refuse(what + "its storage key leaves the archive folder");
    }
    auto entry = entries_.find(folder_ + "data/" + t.storage_key);
    if (entry == entries_.end()) return refuse(what + "its storage " + t.storage_key + " is not in the archive");
    int64_t item = static_cast<int64_t>(dtype_bytes(t.dtype));
    int64_t storage_bytes = 0;
    if (__builtin_mul_overflow(t.storage_elements, item, &storage_bytes) ||
        static_cast<uint64_t>(storage_bytes) > entry->second.bytes) {
      return refuse(what + "its storage is shorter than it says; the file is damaged");
    }
    if (t.shape.size() != t.strides.size() || t.shape.size() > Shape::kMaxRank)
      return refuse(what + "shape and strides do not fit");
    if (t.offset < 0) return refuse(what + "negative offset");
    int64_t elements = 1, last = t.offset;
    bool empty = std::find(t.shape.begin(), t.shape.end(), 0) != t.shape.end();
    TensorInfo info;
    info.dtype = t.dtype;
    for (size_t i = 0; i < t.shape.size(); ++i) {
      int64_t step = 0;
      if (t.shape[i] < 0 || t.strides[i] < 0) return refuse(what + "negative size or stride");
      if (__builtin_mul_overflow(elements, t.shape[i], &elements)) return refuse(what + "absurd shape");
      if (__builtin_mul_overflow(std::max<int64_t>(t.shape[i] - 1, 0), t.strides[i], &step) ||
          __builtin_add_overflow(last, step, &last)) {
        return refuse(what + "absurd strides");
      }
      info.shape.push_back(t.shape[i]);
    }
    if (empty ? t.offset > t.storage_elements : last >= t.storage_elements)
      return refuse(what + "it reaches beyond its storage");
    // An expanded tensor (stride 0) may be larger than its storage, but no checkpoint is larger than this.
    if (elements > (int64_t{1} << 40)) return refuse(what + "absurd shape");
    tensors_[name] = info;
    placed_[name] = {t, entry->second.offset, is_contiguous(t)};
    if (!empty && !is_contiguous(t))
      scratch_bytes_ = std::max(scratch_bytes_, static_cast<size_t>((last - t.offset + 1) * item));
    return {};
  }

  std::shared_ptr<const File> file_;
  std::map<std::string, ZipEntry> entries_;
  std::string folder_;  // "archive/"
  int64_t visited_ = 0;
  size_t scratch_bytes_ = 0;  // what gather() reads of the largest tensor with other strides, at most
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, Placed> placed_;
};

Expected<std::string> find_folder(const std::map<std::string, ZipEntry>& entries, const std::string& path) {
  for (const auto& [name, entry] : entries) {
    if (name == "data.pkl" || name.ends_with("/data.pkl")) return name.substr(0, name.size() - std::strlen("data.pkl"));
  }
  return corrupt(path + ": a zip archive, but not one of PyTorch (no data.pkl)");
}

}  // namespace

Expected<TensorSourcePtr> open_torch(const std::string& path, bool unwrap) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::open(path));
  LA_RETURN_IF_ERROR(explain_wrong_file(*file));
  auto entries = read_zip_directory(*file);
  if (!entries.ok()) return entries.status();
  LA_ASSIGN_OR_RETURN(std::string folder, find_folder(*entries, path));
  const ZipEntry& pickle_entry = entries->at(folder + "data.pkl");
  if (pickle_entry.bytes > kMaxPickleBytes) return corrupt(path + ": refused: its pickle is absurdly long");
  std::string pickle(pickle_entry.bytes, '\0');
  LA_RETURN_IF_ERROR(file->read(pickle_entry.offset, pickle.data(), pickle.size()));
  LA_ASSIGN_OR_RETURN(PicklePtr value, read_pickle(pickle, path));
  auto source = std::make_shared<TorchSource>(file);
  source->set_entries(*std::move(entries), folder);
  LA_RETURN_IF_ERROR(source->collect(*value, "", 0));
  if (unwrap) source->unwrap();
  return TensorSourcePtr(source);
}

Expected<TensorSourcePtr> open_tensors(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::open(path));
  char start[9] = {};  // of safetensors: eight bytes of length, then JSON
  if (file->bytes() >= sizeof(start)) LA_RETURN_IF_ERROR(file->read(0, start, sizeof(start)));
  bool zip = std::memcmp(start, "PK", 2) == 0;
  if (std::memcmp(start, "GGUF", 4) == 0 || (path.ends_with(".gguf") && start[8] != '{')) return open_gguf(path);
  return !zip && (path.ends_with(".safetensors") || start[8] == '{') ? open_safetensors(path) : open_torch(path);
}

}  // namespace liveavatar
