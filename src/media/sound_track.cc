#include "media/sound_track.h"

#include <algorithm>

namespace liveavatar {
namespace {

constexpr int kEncodedHz = 48000;

struct Encoder {
  const char *name, *format;
  AVSampleFormat samples;  // of one channel, planes are as good as interleaved
};
Encoder encoder_of(SoundCodec codec) {
  if (codec == SoundCodec::kAac) return {"aac", "AAC", AV_SAMPLE_FMT_FLTP};
  return {"libopus", "Opus", AV_SAMPLE_FMT_FLT};
}

Status no_memory() { return out_of_memory("no memory for the sound's encoder; close other programs"); }

}  // namespace

Expected<std::unique_ptr<SoundTrack>> SoundTrack::open(SoundCodec sound_codec, int rate_hz, int64_t bits_per_second) {
  const Encoder chosen = encoder_of(sound_codec);
  LA_ASSIGN_OR_RETURN(const AVCodec* codec, find_encoder(chosen.name, chosen.format));
  std::unique_ptr<SoundTrack> track(new SoundTrack);
  track->encoder_.reset(avcodec_alloc_context3(codec));
  track->frame_.reset(av_frame_alloc());
  track->packet_.reset(av_packet_alloc());
  if (!track->encoder_ || !track->frame_ || !track->packet_) return no_memory();
  AVCodecContext& encoder = *track->encoder_;
  encoder.sample_fmt = chosen.samples;
  encoder.sample_rate = kEncodedHz;
  encoder.bit_rate = bits_per_second;
  encoder.time_base = {1, kEncodedHz};
  encoder.log_level_offset = kQuiet;
  encoder.flags |= AV_CODEC_FLAG_BITEXACT | AV_CODEC_FLAG_GLOBAL_HEADER;
  av_channel_layout_default(&encoder.ch_layout, 1);
  if (sound_codec == SoundCodec::kOpus) av_opt_set(encoder.priv_data, "frame_duration", "20", 0);
  if (int code = avcodec_open2(&encoder, codec, nullptr); code < 0)
    return unsupported(std::string("the ") + chosen.format + " encoder does not open for " +
                       std::to_string(bits_per_second) + " bit/s (" + ffmpeg_error(code) + "); choose 6000 to 256000");
  LA_RETURN_IF_ERROR(track->open_resampler(rate_hz));
  return track;
}

Status SoundTrack::open_resampler(int rate_hz) {
  SwrContext* resampler = nullptr;
  AVChannelLayout& mono = encoder_->ch_layout;
  int code = swr_alloc_set_opts2(&resampler, &mono, AV_SAMPLE_FMT_FLT, kEncodedHz, &mono, AV_SAMPLE_FMT_S16, rate_hz,
                                 kQuiet, nullptr);
  resampler_.reset(resampler);
  if (code < 0 || swr_init(resampler) < 0)
    return unsupported("sound at " + std::to_string(rate_hz) +
                       " Hz cannot be resampled by FFmpeg here; choose 24000 or 48000");
  return {};
}

// Appends to waiting_; null: what the resampler holds.
Status SoundTrack::convert(const int16_t* samples, int count) {
  const int room = std::max(1, swr_get_out_samples(resampler_.get(), count));
  const size_t before = waiting_.size();
  waiting_.resize(before + static_cast<size_t>(room));
  auto* out = reinterpret_cast<uint8_t*>(waiting_.data() + before);
  auto* in = reinterpret_cast<const uint8_t*>(samples);
  const int made = swr_convert(resampler_.get(), &out, room, samples ? &in : nullptr, count);
  waiting_.resize(before + static_cast<size_t>(std::max(0, made)));
  return made < 0 ? io_error("the sound could not be resampled (" + ffmpeg_error(made) + "); send it at 48000 Hz")
                  : Status();
}

Status SoundTrack::encode(int64_t samples, const PacketTaker& take) {
  AVFrame& frame = *frame_;
  LA_RETURN_IF_ERROR(prepare_sound(frame, *encoder_, samples, encoded_));
  std::copy_n(waiting_.begin(), samples, reinterpret_cast<float*>(frame.data[0]));
  waiting_.erase(waiting_.begin(), waiting_.begin() + samples);
  encoded_ += samples;
  if (int code = avcodec_send_frame(encoder_.get(), &frame); code < 0)
    return io_error(std::string("the sound's encoder ") + encoder_->codec->name + " failed (" + ffmpeg_error(code) +
                    "); close other programs");
  return take_packets(*encoder_, *packet_, take);
}

Status SoundTrack::write(std::span<const int16_t> samples, const PacketTaker& take) {
  LA_RETURN_IF_ERROR(convert(samples.data(), static_cast<int>(samples.size())));
  while (std::ssize(waiting_) >= encoder_->frame_size) LA_RETURN_IF_ERROR(encode(encoder_->frame_size, take));
  return {};
}

Status SoundTrack::finish(const PacketTaker& take) {
  LA_RETURN_IF_ERROR(convert(nullptr, 0));
  while (!waiting_.empty())
    LA_RETURN_IF_ERROR(encode(std::min<int64_t>(encoder_->frame_size, std::ssize(waiting_)), take));
  avcodec_send_frame(encoder_.get(), nullptr);
  return take_packets(*encoder_, *packet_, take);
}

}  // namespace liveavatar
