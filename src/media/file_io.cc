#include "media/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <tuple>

#include "core/errno_text.h"
#include "core/system_calls.h"

extern "C" {
#include <libavformat/avformat.h>
#include <libavutil/mem.h>
}

namespace liveavatar {
namespace {

constexpr int kBufferBytes = 32768;

struct Reader {
  SharedFile file;
  int64_t at = 0;
};

int read_some(void* opaque, uint8_t* bytes, int count) {
  Reader& reader = *static_cast<Reader*>(opaque);
  const ssize_t got = reader.file->read_some(bytes, reader.at, static_cast<size_t>(count));
  if (got < 0) return AVERROR(errno);
  reader.at += got;
  return got == 0 ? AVERROR_EOF : static_cast<int>(got);
}

int64_t size_of(int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return AVERROR(errno);
  return S_ISREG(info.st_mode) ? info.st_size : AVERROR(ENOSYS);
}

int64_t seek_reader(void* opaque, int64_t offset, int whence) {
  Reader& reader = *static_cast<Reader*>(opaque);
  if (whence == AVSEEK_SIZE) return size_of(reader.file->fd());
  if ((whence & ~AVSEEK_FORCE) != SEEK_SET || offset < 0) return AVERROR(EINVAL);
  reader.at = offset;
  return offset;
}

int write_bytes(void* opaque, uint8_t* bytes, int count) {
  const auto& to = *static_cast<const WriteFile*>(opaque);
  const int error = to.file.write_all(to.fd, bytes, static_cast<size_t>(count));
  return error == 0 ? count : AVERROR(error);
}

int64_t seek_writer(void* opaque, int64_t offset, int whence) {
  const int fd = static_cast<const WriteFile*>(opaque)->fd;
  if (whence == AVSEEK_SIZE) return size_of(fd);
  int64_t at = lseek(fd, offset, whence & ~AVSEEK_FORCE);
  return at < 0 ? AVERROR(errno) : at;
}

}  // namespace

Expected<SharedFile> ReadFile::open(const std::string& path, const std::string& what) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // a pipe is not waited for
  int fd = retry_interrupted([&] { return ::open(path.c_str(), kFlags); });
  if (fd < 0) {
    bool missing = errno == ENOENT || errno == ENOTDIR;
    return missing ? not_found(path + ": no such file; check the name")
                   : io_error(path + ": cannot be opened " + errno_text(errno, "see who may read it"));
  }
  std::shared_ptr<ReadFile> file(new ReadFile(path, fd));
  struct stat info {};
  if (fstat(fd, &info) != 0)
    return io_error(path + ": cannot be read " + errno_text(errno, "copy it to another place"));
  if (S_ISDIR(info.st_mode)) return corrupt(path + ": a folder, not " + what + "; give a file in it");
  if (S_ISFIFO(info.st_mode)) return corrupt(path + ": a pipe, which is read more than once; save it as a file first");
  if (S_ISREG(info.st_mode)) file->opened_bytes_ = info.st_size;
  if (S_ISREG(info.st_mode) && info.st_size == 0) return corrupt(path + ": the file is empty; save or copy it again");
  return SharedFile(std::move(file));
}

ReadFile::~ReadFile() {
  if (fd_ >= 0) close(fd_);
}

int64_t ReadFile::size() const {
  struct stat info {};
  return fstat(fd_, &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : 0;
}

void ReadFile::note(ssize_t got, int64_t offset) const {
  if (got < 0) error_ = errno;
  if (got == 0 && offset < opened_bytes_) is_shorter_ = true;
}

ssize_t ReadFile::read_some(void* to, int64_t offset, size_t count) const {
  const ssize_t got = retry_interrupted([&] { return pread(fd_, to, count, offset); });
  if (count > 0) note(got, offset);
  return got;
}

int64_t ReadFile::read_at(void* to, int64_t offset, int64_t count) const {
  int64_t have = 0;
  while (have < count) {
    const ssize_t got = read_some(static_cast<char*>(to) + have, offset + have, static_cast<size_t>(count - have));
    if (got <= 0) break;
    have += got;
  }
  return have;
}

std::string ReadFile::bytes_at(int64_t offset, int64_t count) const {
  if (offset < 0 || count <= 0) return {};
  std::string bytes(static_cast<size_t>(count), '\0');
  bytes.resize(static_cast<size_t>(read_at(bytes.data(), offset, count)));
  return bytes;
}

Status ReadFile::status() const {
  if (error_ != 0) return io_error(path_ + ": cannot be read " + errno_text(error_, "copy it to another place"));
  if (is_shorter_) return io_error(path_ + ": became shorter while it was read; copy it again");
  return {};
}

void FreeIo::operator()(AVIOContext* io) const {
  if (io != nullptr) av_freep(&io->buffer);
  avio_context_free(&io);
}

void FreeReadIo::operator()(AVIOContext* io) const {
  std::unique_ptr<Reader> reader(io == nullptr ? nullptr : static_cast<Reader*>(io->opaque));
  FreeIo()(io);
}

OwnedIo io_to(WriteFile& file) {
  auto* buffer = static_cast<uint8_t*>(av_malloc(kBufferBytes));
  if (buffer == nullptr) return nullptr;
  OwnedIo io(avio_alloc_context(buffer, kBufferBytes, 1, &file, nullptr, write_bytes, seek_writer));
  if (!io) {
    av_free(buffer);
    return nullptr;
  }
  io->seekable = lseek(file.fd, 0, SEEK_CUR) >= 0 ? AVIO_SEEKABLE_NORMAL : 0;
  return io;
}

ReadIo io_of(SharedFile file) {
  auto* buffer = static_cast<uint8_t*>(av_malloc(kBufferBytes));
  if (buffer == nullptr) return nullptr;
  const bool seekable = lseek(file->fd(), 0, SEEK_CUR) >= 0;
  auto reader = std::make_unique<Reader>(Reader{std::move(file)});
  ReadIo io(avio_alloc_context(buffer, kBufferBytes, 0, reader.get(), read_some, nullptr, seek_reader));
  if (!io) {
    av_free(buffer);
    return nullptr;
  }
  std::ignore = reader.release();  // io frees it
  io->seekable = seekable ? AVIO_SEEKABLE_NORMAL : 0;
  return io;
}

}  // namespace liveavatar
