#include "weights/gguf_reader.h"

#include <algorithm>
#include <cstring>

namespace liveavatar {
namespace {

constexpr uint64_t kMaxHeaderBytes = 256u << 20, kMaxCount = 1u << 20, kMaxStringBytes = 1u << 20;

// 0: texts, arrays, unknown.
size_t value_bytes(GgufValue type) {
  constexpr size_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  auto index = static_cast<size_t>(type);
  return index < std::size(kBytes) ? kBytes[index] : 0;
}

void skip_value(GgufReader& reader, const GgufKey& key) {
  size_t bytes = value_bytes(key.type);
  if (bytes > 0) return reader.skip(bytes);
  if (key.type == GgufValue::kString) {
    reader.text();
    return;
  }
  if (key.type != GgufValue::kArray)
    return reader.fail("key " + key.name + " has a value of unknown type " +
                       std::to_string(static_cast<uint32_t>(key.type)));
  if (size_t item = value_bytes(key.item); item > 0) {
    if (key.count > reader.file().bytes() / item) return reader.fail("ends within its header: the file is truncated");
    return reader.skip(key.count * item);
  }
  if (key.item != GgufValue::kString)  // arrays of arrays occur nowhere
    return reader.fail("key " + key.name + " holds values of unknown type " +
                       std::to_string(static_cast<uint32_t>(key.item)));
  for (uint64_t i = 0; i < key.count && reader.status().ok(); ++i) reader.text();
}

}  // namespace

std::string GgufReader::text() {
  uint64_t length = number<uint64_t>();
  if (length > kMaxStringBytes) fail("holds a text of " + std::to_string(length) + " bytes");
  std::string value(status_.ok() ? length : 0, '\0');
  bytes(value.data(), value.size());
  return value;
}

void GgufReader::skip(uint64_t count) {
  if (count > file_->bytes() - at_) return fail("ends within its header: the file is truncated");
  at_ += count;
}

void GgufReader::fail(const std::string& why) {
  if (status_.ok()) status_ = corrupt(file_->path() + ": " + why + "; download or copy the file again");
}

// Through a window, since a header is thousands of small fields.
void GgufReader::bytes(void* target, size_t count) {
  if (!status_.ok()) return;
  if (count > file_->bytes() - at_) return fail("ends within its header: the file is truncated");
  if (at_ + count > kMaxHeaderBytes) return fail("has an absurd header");
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

Expected<GgufCounts> read_gguf_start(GgufReader& reader) {
  uint32_t magic = reader.number<uint32_t>();
  LA_RETURN_IF_ERROR(reader.status());
  if (magic != 0x46554747u) reader.fail("not a GGUF file");  // "GGUF"
  uint32_t version = reader.number<uint32_t>();
  LA_RETURN_IF_ERROR(reader.status());
  if (version != 2 && version != 3) {
    return unsupported(reader.file().path() + ": GGUF version " + std::to_string(version) +
                       ", this build reads 2 and 3 (little-endian); convert the file anew");
  }
  GgufCounts counts;
  counts.tensors = reader.number<uint64_t>();
  counts.pairs = reader.number<uint64_t>();
  if (counts.tensors > kMaxCount || counts.pairs > kMaxCount) reader.fail("has an absurd header");
  LA_RETURN_IF_ERROR(reader.status());
  return counts;
}

Status read_gguf_pairs(GgufReader& reader, uint64_t pairs, const std::function<bool(const GgufKey&)>& visit) {
  for (uint64_t i = 0; i < pairs && reader.status().ok(); ++i) {
    GgufKey key;
    key.name = reader.text();
    key.type = static_cast<GgufValue>(reader.number<uint32_t>());
    if (key.type == GgufValue::kArray) {
      key.item = static_cast<GgufValue>(reader.number<uint32_t>());
      key.count = reader.number<uint64_t>();
    }
    bool taken = reader.status().ok() && visit(key);
    if (!taken && reader.status().ok()) skip_value(reader, key);
  }
  return reader.status();
}

}  // namespace liveavatar
