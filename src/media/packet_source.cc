#include "media/packet_source.h"

#include "media/video_encoder.h"

namespace liveavatar {

Status PacketSource::begin(const VideoWriterOptions& picture, const AVCodecContext* sound) {
  LA_ASSIGN_OR_RETURN(encoder_, open_video_encoder(picture));
  LA_ASSIGN_OR_RETURN(converter_, RgbToYuv::open(*encoder_));
  packet_.reset(av_packet_alloc());
  if (!packet_) return out_of_memory("no memory for the video encoder; close other programs");
  return sink_->begin({encoder_.get(), sound});
}

Status PacketSource::write_picture(const uint8_t* rgb, int64_t time, bool is_key) {
  LA_ASSIGN_OR_RETURN(AVFrame * frame, converter_->convert(rgb));
  frame->pts = time;
  frame->pict_type = is_key ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
  return encode(frame);
}

Status PacketSource::encode(const AVFrame* frame) {
  const int code = avcodec_send_frame(encoder_.get(), frame);
  if (code < 0)
    return io_error("the video encoder failed (" + ffmpeg_error(code) +
                    "); take another `size`, or close other programs");
  return take_packets(*encoder_, *packet_, [this](AVPacket& packet) { return sink_->write(packet, kPictureStream); });
}

PacketTaker PacketSource::sound_taker() {
  return [this](AVPacket& packet) { return sink_->write(packet, kSoundStream); };
}

}  // namespace liveavatar
