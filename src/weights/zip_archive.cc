#include "weights/zip_archive.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace liveavatar {
namespace {

// Offsets of fields are those of the zip specification (PKWARE APPNOTE 4.3).
constexpr uint32_t kEndSignature = 0x06054b50, kEnd64Signature = 0x06064b50, kLocator64Signature = 0x07064b50;
constexpr uint32_t kEntrySignature = 0x02014b50, kLocalSignature = 0x04034b50;
constexpr uint64_t kEndBytes = 22, kEntryBytes = 46, kLocalBytes = 30;
constexpr uint64_t kMaxDirectoryBytes = 64u << 20;

template <typename T>
T at(const std::vector<uint8_t>& bytes, uint64_t offset) {
  T value{};
  if (offset + sizeof(T) <= bytes.size()) std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

Status broken(const File& file, const std::string& why) {
  return corrupt(file.path() + ": " + why + "; download or copy the file again");
}

struct Directory {
  uint64_t entries = 0, bytes = 0, offset = 0;
};

Expected<Directory> find_directory(const File& file) {
  if (file.bytes() < kEndBytes)
    return broken(file, "not a PyTorch zip archive (" + std::to_string(file.bytes()) + " bytes)");
  uint64_t tail_bytes = std::min<uint64_t>(file.bytes(), 65535 + kEndBytes), tail_begin = file.bytes() - tail_bytes;
  std::vector<uint8_t> tail(tail_bytes);
  LA_RETURN_IF_ERROR(file.read(tail_begin, tail.data(), tail.size()));
  uint64_t end = tail_bytes - kEndBytes + 1;
  while (end-- > 0) {
    if (at<uint32_t>(tail, end) == kEndSignature && end + kEndBytes + at<uint16_t>(tail, end + 20) == tail_bytes) break;
  }
  if (end > tail_bytes) {
    return broken(file, at<uint32_t>(tail, 0) == kLocalSignature || tail_begin > 0
                            ? "not a complete zip archive: its directory is missing, the file is truncated"
                            : "this is no checkpoint file we know (safetensors, GGUF, PyTorch .pth)");
  }
  Directory d{at<uint16_t>(tail, end + 10), at<uint32_t>(tail, end + 12), at<uint32_t>(tail, end + 16)};
  bool wide = d.entries == 0xffff || d.bytes == 0xffffffff || d.offset == 0xffffffff;
  if (wide && end >= 20 && at<uint32_t>(tail, end - 20) == kLocator64Signature) {
    std::vector<uint8_t> record(56);
    uint64_t place = at<uint64_t>(tail, end - 20 + 8);
    if (place > file.bytes() - record.size()) return broken(file, "its zip64 directory lies outside the file");
    LA_RETURN_IF_ERROR(file.read(place, record.data(), record.size()));
    if (at<uint32_t>(record, 0) != kEnd64Signature) return broken(file, "its zip64 directory is damaged");
    d = {at<uint64_t>(record, 32), at<uint64_t>(record, 40), at<uint64_t>(record, 48)};
  }
  if (d.bytes > kMaxDirectoryBytes || d.offset > file.bytes() || d.bytes > file.bytes() - d.offset) {
    return broken(file, "its directory lies outside the file");
  }
  return d;
}

// 64-bit fields that overflowed into the zip64 extra field, in the order size, compressed size, offset.
void widen(const std::vector<uint8_t>& bytes, uint64_t extra, uint64_t extra_end, uint64_t& size, uint64_t& compressed,
           uint64_t& offset) {
  while (extra + 4 <= extra_end) {
    uint16_t id = at<uint16_t>(bytes, extra), length = at<uint16_t>(bytes, extra + 2);
    uint64_t field = extra + 4;
    if (id == 1) {
      for (uint64_t* value : {&size, &compressed, &offset}) {
        if (*value == 0xffffffff && field + 8 <= extra + 4 + length) {
          *value = at<uint64_t>(bytes, field);
          field += 8;
        }
      }
    }
    extra += 4 + uint64_t{length};
  }
}

}  // namespace

Expected<std::map<std::string, ZipEntry>> read_zip_directory(const File& file) {
  LA_ASSIGN_OR_RETURN(Directory directory, find_directory(file));
  std::vector<uint8_t> bytes(directory.bytes);
  LA_RETURN_IF_ERROR(file.read(directory.offset, bytes.data(), bytes.size()));
  std::map<std::string, ZipEntry> entries;
  uint64_t p = 0;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    if (p + kEntryBytes > bytes.size() || at<uint32_t>(bytes, p) != kEntrySignature)
      return broken(file, "its directory is damaged");
    uint16_t method = at<uint16_t>(bytes, p + 10), name_bytes = at<uint16_t>(bytes, p + 28);
    uint16_t extra_bytes = at<uint16_t>(bytes, p + 30), comment_bytes = at<uint16_t>(bytes, p + 32);
    uint64_t compressed = at<uint32_t>(bytes, p + 20), size = at<uint32_t>(bytes, p + 24),
             offset = at<uint32_t>(bytes, p + 42);
    uint64_t name_at = p + kEntryBytes, extra_at = name_at + name_bytes;
    if (extra_at + extra_bytes > bytes.size()) return broken(file, "its directory is damaged");
    widen(bytes, extra_at, extra_at + extra_bytes, size, compressed, offset);
    std::string name(reinterpret_cast<const char*>(bytes.data()) + name_at, name_bytes);
    if (method != 0 || compressed != size)
      return unsupported(file.path() + ": entry " + name + " is compressed; save it again with torch.save");
    if (file.bytes() < kLocalBytes || offset > file.bytes() - kLocalBytes)
      return broken(file, "entry " + name + " lies outside the file");
    std::vector<uint8_t> local(kLocalBytes);
    LA_RETURN_IF_ERROR(file.read(offset, local.data(), local.size()));
    if (at<uint32_t>(local, 0) != kLocalSignature) return broken(file, "entry " + name + " has no header");
    uint64_t data = offset + kLocalBytes + at<uint16_t>(local, 26) + at<uint16_t>(local, 28);
    if (data > file.bytes() || size > file.bytes() - data)
      return broken(file, "entry " + name + " lies outside the file");
    entries[name] = {data, size};
    p = extra_at + extra_bytes + comment_bytes;
  }
  return entries;
}

}  // namespace liveavatar
