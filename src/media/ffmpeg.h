// Owners for FFmpeg's objects, and its errors as words.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include <memory>
#include <string>

#include "core/status.h"

namespace liveavatar {

struct FreeFfmpeg {
  void operator()(AVFormatContext* c) const { avformat_close_input(&c); }
  void operator()(AVCodecContext* c) const { avcodec_free_context(&c); }
  void operator()(AVFrame* f) const { av_frame_free(&f); }
  void operator()(AVPacket* p) const { av_packet_free(&p); }
  void operator()(SwsContext* s) const { sws_freeContext(s); }
};
template <typename T>
using Owned = std::unique_ptr<T, FreeFfmpeg>;

std::string ffmpeg_error(int code);

// An opened file with the decoder of its best stream of one kind.
struct Input {
  Owned<AVFormatContext> format;
  Owned<AVCodecContext> decoder;
  Owned<AVPacket> packet;
  Owned<AVFrame> frame;
  int stream = -1;
  bool drained = false;

  // what: "a picture", "a sound". Errors: missing, empty, unreadable, no such stream.
  static Expected<Input> open(const std::string& path, AVMediaType kind, const std::string& what);
  // The next decoded frame in `frame`; false at the end, or where the rest is damaged.
  bool next();
};

}  // namespace liveavatar
