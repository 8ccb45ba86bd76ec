#include "media/packet_sink.h"

#include <algorithm>

#include "media/encode.h"

namespace liveavatar {

int PacketMuxer::result(int code) const { return code < 0 ? code : std::min(0, format_->pb->error); }

bool PacketMuxer::add_stream(const AVCodecContext& encoder) {
  auto stream = liveavatar::add_stream(*format_, encoder);
  if (!stream.ok()) return false;
  (*stream)->avg_frame_rate = encoder.framerate;
  (*stream)->codecpar->codec_tag = 0;
  time_bases_[(*stream)->index] = encoder.time_base;
  return true;
}

int PacketMuxer::open(const char* name, AVIOContext* io, const StreamEncoders& encoders, AVDictionary* settings) {
  AVFormatContext* format = nullptr;
  int code = avformat_alloc_output_context2(&format, nullptr, name, nullptr);
  format_.reset(format);
  if (code >= 0) {
    format->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_FLUSH_PACKETS | AVFMT_FLAG_BITEXACT;
    format->pb = io;
    const bool added = add_stream(*encoders.picture) && (encoders.sound == nullptr || add_stream(*encoders.sound));
    code = added ? avformat_write_header(format, &settings) : AVERROR(ENOMEM);
  }
  av_dict_free(&settings);
  return code < 0 ? code : result(code);
}

void PacketMuxer::rescale(AVPacket& packet, int stream) {
  if (packet.duration == 0 && stream == kPictureStream) packet.duration = 1;
  packet.stream_index = stream;
  av_packet_rescale_ts(&packet, time_bases_[stream], format_->streams[stream]->time_base);
}

int PacketMuxer::write(AVPacket& packet, int stream) {
  rescale(packet, stream);
  return result(av_interleaved_write_frame(format_.get(), &packet));
}

int PacketMuxer::flush() {
  int code = av_interleaved_write_frame(format_.get(), nullptr);
  if (code >= 0) code = av_write_frame(format_.get(), nullptr);
  avio_flush(format_->pb);
  return result(code);
}

int PacketMuxer::finish() {
  const int code = av_write_trailer(format_.get());
  avio_flush(format_->pb);
  return result(code);
}

}  // namespace liveavatar
