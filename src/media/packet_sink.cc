#include "media/packet_sink.h"

#include <algorithm>

namespace liveavatar {

int PacketMuxer::result(int code) const { return code < 0 ? code : std::min(0, format_->pb->error); }

void PacketMuxer::add_stream(const AVCodecContext& encoder) {
  AVStream* stream = avformat_new_stream(format_.get(), nullptr);
  if (stream == nullptr) return;
  stream->time_base = encoder.time_base;
  stream->avg_frame_rate = encoder.framerate;
  avcodec_parameters_from_context(stream->codecpar, &encoder);
  stream->codecpar->codec_tag = 0;
  time_bases_[stream->index] = encoder.time_base;
}

int PacketMuxer::open(const char* name, AVIOContext* io, const StreamEncoders& encoders, AVDictionary* settings) {
  AVFormatContext* format = nullptr;
  int code = avformat_alloc_output_context2(&format, nullptr, name, nullptr);
  format_.reset(format);
  if (code >= 0) {
    format->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_FLUSH_PACKETS | AVFMT_FLAG_BITEXACT;
    format->pb = io;
    add_stream(*encoders.picture);
    if (encoders.sound != nullptr) add_stream(*encoders.sound);
    const unsigned wanted = encoders.sound == nullptr ? 1 : 2;
    code = format->nb_streams == wanted ? avformat_write_header(format, &settings) : AVERROR(ENOMEM);
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
