#include "media/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

extern "C" {
#include <libavformat/avformat.h>
#include <libavutil/mem.h>
}

namespace liveavatar {
namespace {

constexpr int kBufferBytes = 32768;

int descriptor(void* opaque) { return static_cast<int>(reinterpret_cast<intptr_t>(opaque)); }

int read_some(void* opaque, uint8_t* bytes, int count) {
  ssize_t got = 0;
  do {
    got = read(descriptor(opaque), bytes, static_cast<size_t>(count));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return AVERROR(errno);
  return got == 0 ? AVERROR_EOF : static_cast<int>(got);
}

int write_all(void* opaque, uint8_t* bytes, int count) {
  for (int done = 0; done < count;) {
    ssize_t put = write(descriptor(opaque), bytes + done, static_cast<size_t>(count - done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return AVERROR(put < 0 ? errno : EIO);
    done += static_cast<int>(put);
  }
  return count;
}

int64_t seek_to(void* opaque, int64_t offset, int whence) {
  if (whence == AVSEEK_SIZE) {
    struct stat info {};
    if (fstat(descriptor(opaque), &info) != 0) return AVERROR(errno);
    return S_ISREG(info.st_mode) ? info.st_size : AVERROR(ENOSYS);
  }
  int64_t at = lseek(descriptor(opaque), offset, whence & ~AVSEEK_FORCE);
  return at < 0 ? AVERROR(errno) : at;
}

}  // namespace

Expected<ReadFile> ReadFile::open(const std::string& path, const std::string& what) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe is not waited for
  if (fd < 0) {
    bool missing = errno == ENOENT || errno == ENOTDIR;
    return missing ? not_found(path + ": no such file; check the name")
                   : io_error(path + ": cannot be opened (" + std::strerror(errno) + "); see who may read it");
  }
  ReadFile file(fd);
  struct stat info {};
  if (fstat(fd, &info) != 0)
    return io_error(path + ": cannot be read (" + std::strerror(errno) + "); copy it to another place");
  if (S_ISDIR(info.st_mode)) return corrupt(path + ": a folder, not " + what + "; give a file in it");
  if (S_ISFIFO(info.st_mode)) return corrupt(path + ": a pipe, which is read more than once; save it as a file first");
  if (S_ISREG(info.st_mode) && info.st_size == 0) return corrupt(path + ": the file is empty; save or copy it again");
  return file;
}

ReadFile::~ReadFile() {
  if (fd_ >= 0) close(fd_);
}

int64_t ReadFile::size() const {
  struct stat info {};
  return fstat(fd_, &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : 0;
}

std::string ReadFile::bytes_at(int64_t offset, int64_t count) const { return read_bytes_at(fd_, offset, count); }

std::string read_bytes_at(int descriptor, int64_t offset, int64_t count) {
  if (offset < 0 || count <= 0) return {};
  std::string bytes(static_cast<size_t>(count), '\0');
  size_t have = 0;
  while (have < bytes.size()) {
    ssize_t got = pread(descriptor, bytes.data() + have, bytes.size() - have, offset + static_cast<int64_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<size_t>(got);
  }
  bytes.resize(have);
  return bytes;
}

void FreeIo::operator()(AVIOContext* io) const {
  if (io != nullptr) av_freep(&io->buffer);
  avio_context_free(&io);
}

namespace {

OwnedIo make_io(int fd, bool writes) {
  auto* buffer = static_cast<uint8_t*>(av_malloc(kBufferBytes));
  if (buffer == nullptr) return nullptr;
  void* opaque = reinterpret_cast<void*>(static_cast<intptr_t>(fd));
  AVIOContext* io = avio_alloc_context(buffer, kBufferBytes, writes ? 1 : 0, opaque, writes ? nullptr : read_some,
                                       writes ? write_all : nullptr, seek_to);
  if (io == nullptr) {
    av_free(buffer);
    return nullptr;
  }
  io->seekable = lseek(fd, 0, SEEK_CUR) >= 0 ? AVIO_SEEKABLE_NORMAL : 0;
  return OwnedIo(io);
}

}  // namespace

OwnedIo io_of(const ReadFile& file) { return make_io(file.fd(), false); }
OwnedIo io_to(int descriptor) { return make_io(descriptor, true); }

}  // namespace liveavatar
