#include "media/pipe_sink.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <string>

namespace liveavatar {
namespace {

constexpr int kBufferBytes = 32768;
constexpr int kPollMs = 100;
constexpr double kForEver = 3e8, kStoppedSeconds = 1;

}  // namespace

Expected<std::unique_ptr<PipeSink>> PipeSink::open(int descriptor, const std::stop_token& stop) {
  std::unique_ptr<PipeSink> sink(new PipeSink(descriptor, stop));
  auto* buffer = static_cast<uint8_t*>(av_malloc(kBufferBytes));
  if (buffer != nullptr)
    sink->io_.reset(avio_alloc_context(buffer, kBufferBytes, 1, sink.get(), nullptr, write_bytes, nullptr));
  if (sink->io_) return sink;
  av_free(buffer);
  return out_of_memory("no memory for a stream; close other programs");
}

PipeSink::~PipeSink() { ::close(descriptor_); }

// No more at once than a pipe that poll() calls writable takes without waiting.
int PipeSink::write_some(const uint8_t* bytes, int count) {
  struct pollfd wanted {
    descriptor_, POLLOUT, 0
  };
  const int ready = ::poll(&wanted, 1, kPollMs);
  if (ready < 0 && errno != EINTR) return AVERROR(errno);
  if (deadline_.passed()) return AVERROR_EXIT;
  if (ready <= 0) return 0;
  const ssize_t put = ::write(descriptor_, bytes, static_cast<size_t>(std::min(count, PIPE_BUF)));
  if (put >= 0) return static_cast<int>(put);
  return errno == EINTR || errno == EAGAIN ? 0 : AVERROR(errno);
}

int PipeSink::write_bytes(void* self, uint8_t* bytes, int count) {
  auto& sink = *static_cast<PipeSink*>(self);
  for (int done = 0; done < count;) {
    const int put = sink.write_some(bytes + done, count - done);
    if (put < 0) return put;
    done += put;
  }
  return count;
}

Status PipeSink::begin(const StreamEncoders& encoders) {
  encoders_ = encoders;
  deadline_.set(kForEver, kStoppedSeconds);
  AVDictionary* settings = nullptr;
  // As in LiveMuxer: the header waits for the edit list, and no trailer keeps the place of every fragment.
  av_dict_set(&settings, "movflags", "frag_custom+delay_moov+default_base_moof+skip_trailer", 0);
  const int code = muxer_.open("mp4", io_.get(), encoders, settings);
  return code < 0 ? failed(code) : Status();
}

Status PipeSink::write(AVPacket& packet, int stream) {
  if (stream == kPictureStream) written_s_ = double(packet.pts + 1) * av_q2d(encoders_.picture->time_base);
  const int code = muxer_.write(packet, stream);
  return code < 0 ? failed(code) : Status();
}

// The first flush writes no more than the header.
Status PipeSink::flush() {
  int code = muxer_.flush();
  if (code >= 0) code = muxer_.flush();
  return code < 0 ? failed(code) : Status();
}

Status PipeSink::finish() { return flush(); }

Status PipeSink::failed(int code) const {
  if (code == AVERROR_EXIT) return cancelled("stopped on request");
  char so_far[32];
  std::snprintf(so_far, sizeof(so_far), "%.1f s", written_s_);
  if (code == AVERROR(EPIPE))
    return io_error(std::string("standard output: the program that reads it has ended, after ") + so_far +
                    " of the video; look at what it says");
  return io_error(std::string("standard output: writing failed after ") + so_far + " of the video (" +
                  ffmpeg_error(code) + "); make room, or choose another place");
}

}  // namespace liveavatar
