#include "serve/video_streams.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "core/boundary.h"
#include "core/errno_text.h"
#include "core/system_calls.h"

namespace liveavatar::serve {
namespace {

using State = http::BodyStream::State;
constexpr size_t kPieceBytes = 64 << 10;

// An open file; the name lives as long.
class OpenFile {
 public:
  static Expected<std::shared_ptr<OpenFile>> open(std::shared_ptr<WorkFile> file) {
    const int fd = retry_interrupted([&] { return ::open(file->path().c_str(), O_RDONLY | O_CLOEXEC); });
    if (fd < 0) return io_error("the video cannot be read " + errno_text(errno, "make it again"));
    return std::make_shared<OpenFile>(std::move(file), fd);
  }
  OpenFile(std::shared_ptr<WorkFile> file, int fd) : file_(std::move(file)), fd_(fd) {}
  ~OpenFile() { ::close(fd_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  uint64_t size() const {
    struct stat status {};
    return ::fstat(fd_, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
  }
  // What is there, up to `count` bytes. Throws where it cannot be read: the connection then ends before the body does,
  // which is how HTTP tells a client that it has not all.
  std::string read(uint64_t from, uint64_t count) const {
    std::string bytes(std::min<uint64_t>(count, kPieceBytes), '\0');
    const auto offset = static_cast<off_t>(from);
    const ssize_t got = retry_interrupted([&] { return ::pread(fd_, bytes.data(), bytes.size(), offset); });
    if (got < 0) throw Failure(io_error("the video cannot be read " + errno_text(errno, "make it again")));
    bytes.resize(static_cast<size_t>(got));
    return bytes;
  }
  // Of that, at least a byte where `count` says there is one.
  std::string read_some(uint64_t from, uint64_t count) const {
    std::string bytes = read(from, count);
    if (bytes.empty() && count > 0) throw Failure(io_error("the video has become shorter; make it again"));
    return bytes;
  }

 private:
  const std::shared_ptr<WorkFile> file_;
  const int fd_;
};

class FileStream final : public http::BodyStream {
 public:
  FileStream(std::shared_ptr<OpenFile> file, uint64_t first, uint64_t count)
      : file_(std::move(file)), at_(first), end_(first + count) {}
  State next(std::string& out) override {
    const std::string bytes = file_->read_some(at_, end_ - at_);
    at_ += bytes.size();
    out += bytes;
    return at_ < end_ ? State::kMore : State::kEnd;
  }

 private:
  const std::shared_ptr<OpenFile> file_;
  uint64_t at_;
  const uint64_t end_;
};

uint64_t big_endian(const std::string& bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// Follows the boxes of an MP4, so that it ends before a second `moov`.
class GrowingStream final : public http::BodyStream {
 public:
  GrowingStream(const VideoJobs& jobs, std::string id, std::shared_ptr<OpenFile> file)
      : jobs_(jobs), id_(std::move(id)), file_(std::move(file)) {}

  State next(std::string& out) override {
    const auto view = jobs_.find(id_);  // before the size: what is ended does not grow
    const bool grows = view && !has_ended(view->state);
    const uint64_t size = file_->size();
    while (box_end_ <= at_ && !at_index_ && open_box(size)) {
    }
    const std::string bytes = file_->read_some(at_, std::min(box_end_, size) - at_);
    at_ += bytes.size();
    out += bytes;
    if (at_index_) return State::kEnd;
    if (!bytes.empty()) return State::kMore;
    return grows ? State::kWait : State::kEnd;
  }

 private:
  // Reads the head of the box that begins where the last one ended. false: it is not there yet.
  bool open_box(uint64_t size) {
    constexpr size_t kHead = 8, kLongHead = 16;
    if (size < box_end_ + kHead) return false;
    const std::string head = file_->read(box_end_, kLongHead);
    if (head.size() < kHead) return false;
    uint64_t bytes = big_endian(head, 0, 4);
    if (bytes == 1 && head.size() < kLongHead) return false;
    if (bytes == 1) bytes = big_endian(head, kHead, 8);
    if (bytes < kHead) return false;
    const bool is_index = head.substr(4, 4) == "moov";
    at_index_ = is_index && seen_index_;
    seen_index_ = seen_index_ || is_index;
    if (!at_index_) box_end_ += bytes;
    return true;
  }

  const VideoJobs& jobs_;
  const std::string id_;
  const std::shared_ptr<OpenFile> file_;
  uint64_t at_ = 0, box_end_ = 0;
  bool seen_index_ = false, at_index_ = false;
};

class EventStream final : public http::BodyStream {
 public:
  EventStream(const VideoJobs& jobs, std::string id) : jobs_(jobs), id_(std::move(id)) {}

  State next(std::string& out) override {
    constexpr auto kLeast = std::chrono::milliseconds(200), kHeartbeat = std::chrono::milliseconds(15000);
    const auto now = std::chrono::steady_clock::now();
    if (now < asked_ + kLeast) return State::kWait;
    asked_ = now;
    auto view = jobs_.find(id_);
    if (!view) return State::kEnd;
    const bool ended = has_ended(view->state);
    // Times that only pass are no news.
    VideoView compared = *view;
    compared.queued_s = compared.wall_s = 0;
    std::string key = video_json(compared);
    if (key != last_) {
      last_ = std::move(key);
      sent_ = now;
      out += "event: video\ndata: " + video_json(*view) + "\n\n";
    } else if (now > sent_ + kHeartbeat) {
      sent_ = now;
      out += ": waiting\n\n";
    }
    return ended ? State::kEnd : State::kWait;
  }

 private:
  const VideoJobs& jobs_;
  const std::string id_;
  std::string last_;
  std::chrono::steady_clock::time_point asked_{}, sent_{};
};

}  // namespace

Expected<uint64_t> file_bytes(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    return io_error("the video cannot be read " + errno_text(errno, "make it again"));
  return static_cast<uint64_t>(status.st_size);
}

Expected<std::shared_ptr<http::BodyStream>> open_file_stream(std::shared_ptr<WorkFile> file, uint64_t first,
                                                             uint64_t count) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<OpenFile> open, OpenFile::open(std::move(file)));
  return std::shared_ptr<http::BodyStream>(std::make_shared<FileStream>(std::move(open), first, count));
}

Expected<std::shared_ptr<http::BodyStream>> open_growing_stream(const VideoJobs& jobs, const VideoView& view) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<OpenFile> open, OpenFile::open(view.video));
  return std::shared_ptr<http::BodyStream>(std::make_shared<GrowingStream>(jobs, view.id, std::move(open)));
}

std::shared_ptr<http::BodyStream> open_event_stream(const VideoJobs& jobs, const std::string& id) {
  return std::make_shared<EventStream>(jobs, id);
}

ByteRange parse_range(std::string_view header, uint64_t bytes) {
  constexpr std::string_view kUnit = "bytes=";
  if (!header.starts_with(kUnit)) return {};
  header.remove_prefix(kUnit.size());
  const size_t dash = header.find('-');
  if (dash == std::string_view::npos || header.find(',') != std::string_view::npos) return {};
  auto number = [](std::string_view text, uint64_t& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size();
  };
  uint64_t first = 0, last = bytes - 1;
  const std::string_view from = header.substr(0, dash), to = header.substr(dash + 1);
  if (from.empty()) {
    uint64_t count = 0;
    if (!number(to, count)) return {};
    if (count == 0 || bytes == 0) return {ByteRange::Kind::kUnsatisfiable};
    return {ByteRange::Kind::kPart, bytes - std::min(count, bytes), bytes - 1};
  }
  if (!number(from, first) || (!to.empty() && !number(to, last))) return {};
  if (!to.empty() && last < first) return {};
  if (first >= bytes) return {ByteRange::Kind::kUnsatisfiable};
  return {ByteRange::Kind::kPart, first, std::min(last, bytes - 1)};
}

}  // namespace liveavatar::serve
