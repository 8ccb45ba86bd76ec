#include "session/snapshot_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "core/errno_text.h"
#include "core/folder.h"
#include "core/output_files.h"
#include "core/system_calls.h"
#include "ops/transfer.h"

namespace liveavatar {
namespace {

constexpr char kMagic[8] = {'L', 'A', 'S', 'N', 'A', 'P', '0', '1'};  // the last two: the version
constexpr size_t kSameMagic = 6;
constexpr uint64_t kMostNameBytes = 256, kMostTextBytes = 1 << 24;
constexpr int64_t kMostRecords = 1 << 22;
constexpr const char* kLast = "end";  // its text: how many are before it

// Before a record's name and its bytes; its checksum is of all three.
struct RecordHead {
  uint64_t name_bytes = 0, bytes = 0;
};

std::span<const std::byte> bytes_of(const void* memory, size_t count) {
  return {static_cast<const std::byte*>(memory), count};
}

// Some rows of the tensor, at most kPartBytes where a row is not more.
template <typename Each>
Status in_parts(const Tensor& tensor, const Each& each) {
  const Tensor flat = tensor.rows();
  const auto row_bytes = std::max<size_t>(flat.bytes() / static_cast<size_t>(std::max<int64_t>(flat.dim(0), 1)), 1);
  const auto rows = static_cast<int64_t>(std::max<size_t>(SnapshotWriter::kPartBytes / row_bytes, 1));
  for (int64_t at = 0; at < flat.dim(0); at += rows)
    LA_RETURN_IF_ERROR(each(flat.slice(at, std::min(rows, flat.dim(0) - at))));
  return {};
}

}  // namespace

Expected<std::unique_ptr<SnapshotWriter>> SnapshotWriter::create(const std::string& path) {
  LA_ASSIGN_OR_RETURN(PendingFile file, PendingFile::open(path, PendingFile::Busy::kRefuse));
  std::unique_ptr<SnapshotWriter> writer(new SnapshotWriter(std::move(file)));
  LA_RETURN_IF_ERROR(writer->put(bytes_of(kMagic, sizeof(kMagic))));
  writer->checksum_.end();
  return writer;
}

Status SnapshotWriter::put(std::span<const std::byte> bytes) {
  checksum_.add(bytes);
  const int error = write_all(file_.descriptor(), bytes.data(), bytes.size());
  if (error != 0) return write_failed({"", path()}, error);
  bytes_ += bytes.size();
  return {};
}

Status SnapshotWriter::begin(const std::string& name, uint64_t bytes) {
  LA_CHECK(!name.empty() && name.size() <= kMostNameBytes);
  const RecordHead head{name.size(), bytes};
  LA_RETURN_IF_ERROR(put(bytes_of(&head, sizeof(head))));
  return put(bytes_of(name.data(), name.size()));
}

Status SnapshotWriter::end() {
  const Checksum::Value value = checksum_.end();
  LA_RETURN_IF_ERROR(put(bytes_of(value.data(), value.size())));
  checksum_.end();
  ++records_;
  return {};
}

Status SnapshotWriter::add(const std::string& name, std::span<const std::byte> bytes) {
  LA_RETURN_IF_ERROR(begin(name, bytes.size()));
  LA_RETURN_IF_ERROR(put(bytes));
  return end();
}

Status SnapshotWriter::add(const std::string& name, const std::string& text) {
  return add(name, bytes_of(text.data(), text.size()));
}

Status SnapshotWriter::add(const std::string& name, Backend& backend, const Tensor& tensor) {
  LA_RETURN_IF_ERROR(begin(name, tensor.bytes()));
  const Status written = in_parts(tensor, [&](const Tensor& rows) {
    const Download host(backend, rows);
    const Status arrived = backend.synchronize();
    return arrived.ok() ? put(bytes_of(host.tensor().address(), rows.bytes())) : arrived;
  });
  return written.ok() ? end() : written;
}

Status SnapshotWriter::commit() {
  LA_RETURN_IF_ERROR(add(kLast, std::to_string(records_)));
  LA_RETURN_IF_ERROR(file_.commit());
  return sync_folder(folder_of(path())) ? Status() : write_failed({"", path()}, errno);
}

SnapshotReader::~SnapshotReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status SnapshotReader::damaged(const std::string& what) const {
  return corrupt(path_ + ": " + what + "; it cannot be used, remove it");
}

Expected<std::unique_ptr<SnapshotReader>> SnapshotReader::open(const std::string& path) {
  std::unique_ptr<SnapshotReader> reader(new SnapshotReader(path));
  reader->descriptor_ = retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
  if (reader->descriptor_ < 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    const Status unreadable = io_error(path + ": cannot be opened " + errno_text(errno, "see who may read it"));
    return missing ? not_found(path + ": no such file; check the name") : unreadable;
  }
  struct stat info {};
  if (::fstat(reader->descriptor_, &info) != 0 || !S_ISREG(info.st_mode))
    return corrupt(path + ": is no file of a snapshot; give one");
  reader->bytes_ = static_cast<uint64_t>(info.st_size);
  LA_RETURN_IF_ERROR(reader->check());
  return reader;
}

Status SnapshotReader::check() {
  const std::string magic = read_text_at(descriptor_, 0, sizeof(kMagic));
  if (magic.size() < sizeof(kMagic) || std::memcmp(magic.data(), kMagic, kSameMagic) != 0)
    return damaged("is no snapshot of a job");
  if (std::memcmp(magic.data(), kMagic, sizeof(kMagic)) != 0)
    return unsupported(path_ + ": is a snapshot of version " + magic.substr(kSameMagic) +
                       ", this program knows 01; take the program that made it");
  std::vector<std::byte> part(size_t{1} << 20);
  Checksum checksum;
  uint64_t offset = sizeof(kMagic);
  bool more = true;
  while (more) {
    LA_ASSIGN_OR_RETURN(more, check_record(offset, checksum, part));
  }
  return offset == bytes_ ? Status() : damaged("has " + std::to_string(bytes_ - offset) + " bytes behind its end");
}

// false: it was the last.
Expected<bool> SnapshotReader::check_record(uint64_t& offset, Checksum& checksum, std::span<std::byte> part) {
  const uint64_t left = bytes_ - offset;
  RecordHead head;
  const bool has_head = read_all_at(descriptor_, &head, sizeof(head), offset) == sizeof(head);
  const uint64_t around = sizeof(head) + sizeof(Checksum::Value) + head.name_bytes;
  if (!has_head || head.name_bytes == 0 || head.name_bytes > kMostNameBytes || around > left ||
      head.bytes > left - around)
    return damaged("ends in the middle");
  const std::string name = read_text_at(descriptor_, offset + sizeof(head), head.name_bytes);
  const Record record{offset + sizeof(head) + head.name_bytes, head.bytes};
  const uint64_t end = record.offset + record.bytes;
  for (uint64_t at = offset; at < end;) {
    const int64_t count = read_all_at(descriptor_, part.data(), std::min<uint64_t>(part.size(), end - at), at);
    if (count <= 0) return damaged("cannot be read to its end");
    checksum.add(part.first(static_cast<size_t>(count)));
    at += static_cast<uint64_t>(count);
  }
  Checksum::Value stored{};
  const Checksum::Value value = checksum.end();
  const bool has_sum = read_all_at(descriptor_, stored.data(), sizeof(stored), end) == sizeof(stored);
  if (!has_sum || stored != value) return damaged("is damaged: the checksum of its part \"" + name + "\" is another");
  offset = end + sizeof(stored);
  if (name != kLast) {
    const bool fresh = std::ssize(records_) < kMostRecords && records_.emplace(name, record).second;
    return fresh ? Expected<bool>(true) : damaged("has its part \"" + name + "\" twice");
  }
  records_.emplace(name, record);
  LA_ASSIGN_OR_RETURN(const std::string count, text(name));
  return count == std::to_string(records_.size() - 1) ? Expected<bool>(false) : damaged("lacks some of its parts");
}

Expected<SnapshotReader::Record> SnapshotReader::find(const std::string& name) const {
  const auto found = records_.find(name);
  if (found == records_.end()) return damaged("has no part \"" + name + "\"");
  return found->second;
}

Expected<std::string> SnapshotReader::text(const std::string& name) const {
  LA_ASSIGN_OR_RETURN(const Record record, find(name));
  if (record.bytes > kMostTextBytes) return damaged("its part \"" + name + "\" is too long");
  return read_text_at(descriptor_, record.offset, record.bytes);
}

Status SnapshotReader::read(const std::string& name, Backend& backend, const Tensor& tensor) const {
  LA_ASSIGN_OR_RETURN(const Record record, find(name));
  if (record.bytes != tensor.bytes()) return damaged("its part \"" + name + "\" is of another job");
  uint64_t at = record.offset;
  return in_parts(tensor, [&](const Tensor& rows) -> Status {
    std::vector<std::byte> staging(rows.device.is_host() ? 0 : rows.bytes());
    void* to = staging.empty() ? rows.address() : staging.data();
    if (read_all_at(descriptor_, to, rows.bytes(), at) != static_cast<int64_t>(rows.bytes()))
      return damaged("changed while it was read");
    at += rows.bytes();
    if (!staging.empty()) backend.upload(staging.data(), rows);
    return {};
  });
}

}  // namespace liveavatar
