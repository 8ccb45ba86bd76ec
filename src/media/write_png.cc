#include <cstring>

#include "core/output_files.h"
#include "core/pending_file.h"
#include "core/system_calls.h"
#include "media/ffmpeg.h"
#include "media/image.h"

namespace liveavatar {

Status write_png(const std::string& path, const Image& image) {
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
  Owned<AVCodecContext> encoder(codec ? avcodec_alloc_context3(codec) : nullptr);
  Owned<AVFrame> frame(av_frame_alloc());
  Owned<AVPacket> packet(av_packet_alloc());
  if (!encoder || !frame || !packet) return unsupported("FFmpeg here has no PNG encoder");
  encoder->width = frame->width = static_cast<int>(image.width);
  encoder->height = frame->height = static_cast<int>(image.height);
  encoder->pix_fmt = AV_PIX_FMT_RGB24;
  encoder->log_level_offset = kQuiet;
  frame->format = AV_PIX_FMT_RGB24;
  encoder->time_base = {1, 25};
  if (avcodec_open2(encoder.get(), codec, nullptr) < 0 || av_frame_get_buffer(frame.get(), 0) < 0)
    return unsupported("the PNG encoder cannot take this image");
  for (int64_t y = 0; y < image.height; ++y) {
    std::memcpy(frame->data[0] + y * frame->linesize[0], image.rgb.data() + y * image.width * 3,
                static_cast<size_t>(image.width) * 3);
  }
  if (avcodec_send_frame(encoder.get(), frame.get()) < 0 || avcodec_receive_packet(encoder.get(), packet.get()) < 0) {
    return io_error(path + ": the image could not be encoded");
  }
  LA_ASSIGN_OR_RETURN(PendingFile file, PendingFile::open(path, PendingFile::Busy::kRefuse));
  const int error = write_all(file.descriptor(), packet->data, static_cast<size_t>(packet->size));
  if (error != 0) return write_failed({"", path}, error);
  return file.commit();
}

}  // namespace liveavatar
