// Owners of FFmpeg's objects, and its errors as text.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswresample/swresample.h>
#include <libswscale/swscale.h>
}

#include <climits>
#include <memory>
#include <string>

#include "core/status.h"
#include "media/file_io.h"

namespace liveavatar {

struct FreeFfmpeg {
  void operator()(AVFormatContext* c) const { avformat_close_input(&c); }
  void operator()(AVCodecContext* c) const { avcodec_free_context(&c); }
  void operator()(AVFrame* f) const { av_frame_free(&f); }
  void operator()(AVPacket* p) const { av_packet_free(&p); }
  void operator()(SwrContext* s) const { swr_free(&s); }
  void operator()(SwsContext* s) const { sws_freeContext(s); }
};
template <typename T>
using Owned = std::unique_ptr<T, FreeFfmpeg>;

struct FreeOutput {
  void operator()(AVFormatContext* c) const { avformat_free_context(c); }
};
using OwnedOutput = std::unique_ptr<AVFormatContext, FreeOutput>;

std::string ffmpeg_error(int code);

// The encoder that FFmpeg knows by this name; kUnsupported where it was built without. format: "Opus".
Expected<const AVCodec*> find_encoder(const std::string& name, const std::string& format);

// Added to the level of what a codec logs: the library never prints. FFmpeg's demuxers have no such number; what they
// log is up to the program (av_log_set_level), whose process it is.
// Beyond every level and below 256, where a colour begins.
constexpr int kQuiet = 100;

// FFmpeg counts the bytes of an image in an int, at 8 a pixel.
constexpr int64_t kMostPixels = INT_MAX / 8;

// A reader of an open file, from its start, with the decoder of its best stream of one kind. Several readers of one
// file are independent.
struct Input {
  ReadIo io;
  Owned<AVFormatContext> format;  // before `io`, which it reads through
  Owned<AVCodecContext> decoder;
  Owned<AVPacket> packet;
  Owned<AVFrame> frame;
  int stream = -1;
  bool drained = false;
  int error = 0;  // of the last packet that the decoder refused; 0: none
  SharedFile file;
  bool no_memory = false;

  // what: "an image", "audio". max_pixels: of a frame; larger ones are not decoded. Errors: unreadable, no
  // such stream.
  static Expected<Input> open(const SharedFile& file, AVMediaType kind, const std::string& what,
                              int64_t max_pixels = kMostPixels);
  struct ImageOptions {
    bool probe = true;   // false: the header was read elsewhere, and nothing is decoded before next()
    bool strict = true;  // damage that the decoder would conceal is an error
    int reduction = 0;   // sides divided by 2^reduction (JPEG)
  };
  static Expected<Input> open_image(const SharedFile& file, ImageOptions options);
  // The next decoded frame in `frame`; false at the end, or if the rest is damaged. A packet that the decoder
  // refuses is skipped and noted in `error`.
  bool next();
  // After next() was false: an error if that was not the file's end, nor damage.
  Status status() const;

 private:
  int note(int code);
};

}  // namespace liveavatar
