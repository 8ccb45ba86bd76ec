#include "media/encode.h"

namespace liveavatar {

Status take_packets(AVCodecContext& encoder, AVPacket& packet, const PacketTaker& take) {
  int code = avcodec_receive_packet(&encoder, &packet);
  while (code == 0) {
    LA_RETURN_IF_ERROR(take(packet));
    code = avcodec_receive_packet(&encoder, &packet);
  }
  if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return {};
  return io_error(std::string("the encoder ") + encoder.codec->name + " failed (" + ffmpeg_error(code) +
                  "); close other programs");
}

Status prepare_sound(AVFrame& frame, const AVCodecContext& encoder, int64_t samples, int64_t time) {
  av_frame_unref(&frame);
  frame.nb_samples = static_cast<int>(samples);
  frame.format = encoder.sample_fmt;
  frame.sample_rate = encoder.sample_rate;
  frame.pts = time;
  const bool has_room =
      av_channel_layout_copy(&frame.ch_layout, &encoder.ch_layout) >= 0 && av_frame_get_buffer(&frame, 0) >= 0;
  return has_room ? Status() : out_of_memory("no memory for the sound's encoder; close other programs");
}

Expected<AVStream*> add_stream(AVFormatContext& format, const AVCodecContext& encoder) {
  AVStream* stream = avformat_new_stream(&format, nullptr);
  if (stream == nullptr || avcodec_parameters_from_context(stream->codecpar, &encoder) < 0)
    return out_of_memory("no memory for a stream; close other programs");
  stream->time_base = encoder.time_base;
  return stream;
}

}  // namespace liveavatar
