#include "media/audio_track.h"

#include <algorithm>
#include <cmath>

namespace liveavatar {
namespace {

constexpr int64_t kChunkFrames = 4096;

// The audio's own rate, or the nearest that AAC has, doubled until an AAC frame (1024 samples) is shorter than a frame
// of video (40 ms): the lead-in and the last frame's padding count as length in some readers.
int aac_rate(int rate) {
  constexpr int kRates[] = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000};
  auto distance = [rate](int a, int b) { return std::abs(a - rate) < std::abs(b - rate); };
  int best = *std::min_element(std::begin(kRates), std::end(kRates), distance);
  while (best < 32000) best *= 2;
  return best;
}

}  // namespace

Expected<std::unique_ptr<AudioTrack>> AudioTrack::open(std::unique_ptr<AudioStream> audio, bool global_header) {
  std::unique_ptr<AudioTrack> track(new AudioTrack(std::move(audio)));
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_AAC);
  track->encoder_.reset(codec ? avcodec_alloc_context3(codec) : nullptr);
  track->frame_.reset(av_frame_alloc());
  track->packet_.reset(av_packet_alloc());
  if (!track->encoder_ || !track->frame_ || !track->packet_)
    return unsupported("FFmpeg here has no AAC encoder; install FFmpeg's libraries with it, as Debian has them");
  AVCodecContext& encoder = *track->encoder_;
  int channels = track->audio_->channels();
  encoder.sample_fmt = AV_SAMPLE_FMT_FLTP;
  encoder.log_level_offset = kQuiet;
  encoder.sample_rate = aac_rate(track->audio_->sample_rate_hz());
  encoder.bit_rate = channels == 1 ? 128000 : 192000;
  encoder.time_base = {1, encoder.sample_rate};
  encoder.flags |= AV_CODEC_FLAG_BITEXACT | (global_header ? AV_CODEC_FLAG_GLOBAL_HEADER : 0);
  av_channel_layout_default(&encoder.ch_layout, channels);
  if (int code = avcodec_open2(&encoder, codec, nullptr); code < 0)
    return unsupported(track->audio_->where() + ": the AAC encoder refuses the voice (" + ffmpeg_error(code) +
                       "); convert it to a mono WAV of 48 kHz");

  AVChannelLayout from{};
  av_channel_layout_default(&from, track->audio_->channels());
  SwrContext* resampler = nullptr;
  int code = swr_alloc_set_opts2(&resampler, &encoder.ch_layout, AV_SAMPLE_FMT_FLTP, encoder.sample_rate, &from,
                                 AV_SAMPLE_FMT_FLT, track->audio_->sample_rate_hz(), 0, nullptr);
  track->resampler_.reset(resampler);
  if (code < 0 || swr_init(resampler) < 0)
    return unsupported(track->audio_->where() + ": the voice's channels cannot be converted; convert it to a mono WAV");
  track->waiting_.resize(static_cast<size_t>(channels));
  return track;
}

// Converted samples until made_ reaches `until`; silence after the voice.
Status AudioTrack::pull(int64_t until) {
  size_t channels = waiting_.size();
  interleaved_.resize(static_cast<size_t>(kChunkFrames * audio_->channels()));
  while (made_ < until) {
    int64_t got = 0;
    if (!ended_) {
      auto read = audio_->read(interleaved_.data(), kChunkFrames);
      // A damaged tail ends the audio, not the video.
      if (!read.ok() && read.status().code() != ErrorCode::kCorrupt) return read.status();
      got = read.ok() ? *read : 0;
      ended_ = got == 0;
    }
    int64_t room = swr_get_out_samples(resampler_.get(), static_cast<int>(got));
    std::vector<uint8_t*> planes;
    std::vector<std::vector<float>> out(channels, std::vector<float>(static_cast<size_t>(std::max<int64_t>(room, 1))));
    for (auto& plane : out) planes.push_back(reinterpret_cast<uint8_t*>(plane.data()));
    const uint8_t* in[1] = {reinterpret_cast<const uint8_t*>(interleaved_.data())};
    int converted = swr_convert(resampler_.get(), planes.data(), static_cast<int>(room), ended_ ? nullptr : in,
                                static_cast<int>(got));
    if (converted < 0)
      return io_error("the voice could not be converted (" + ffmpeg_error(converted) + "); convert it to a 16-bit WAV");
    for (size_t c = 0; c < channels; ++c)
      waiting_[c].insert(waiting_[c].end(), out[c].begin(), out[c].begin() + converted);
    made_ += converted;
    if (ended_ && converted == 0) {
      for (auto& plane : waiting_) plane.resize(plane.size() + static_cast<size_t>(until - made_), 0.0f);
      made_ = until;
    }
  }
  return {};
}

Status AudioTrack::encode(int64_t samples, const PacketTaker& take) {
  AVFrame& frame = *frame_;
  LA_RETURN_IF_ERROR(prepare_sound(frame, *encoder_, samples, encoded_));
  for (size_t c = 0; c < waiting_.size(); ++c) {
    std::copy_n(waiting_[c].begin(), samples, reinterpret_cast<float*>(frame.data[c]));
    waiting_[c].erase(waiting_[c].begin(), waiting_[c].begin() + samples);
  }
  encoded_ += samples;
  if (int code = avcodec_send_frame(encoder_.get(), &frame); code < 0)
    return io_error("the AAC encoder failed at the voice (" + ffmpeg_error(code) + "); convert it to a 16-bit WAV");
  return take_packets(*encoder_, *packet_, take);
}

Status AudioTrack::advance(double seconds, const PacketTaker& take) {
  int64_t until = std::llround(seconds * encoder_->sample_rate);
  LA_RETURN_IF_ERROR(pull(until));
  while (until - encoded_ >= encoder_->frame_size) LA_RETURN_IF_ERROR(encode(encoder_->frame_size, take));
  // What was converted beyond `until` waits; finish() drops it.
  wanted_ = until - encoded_;
  return {};
}

Status AudioTrack::finish(const PacketTaker& take) {
  if (wanted_ > 0) LA_RETURN_IF_ERROR(encode(wanted_, take));
  avcodec_send_frame(encoder_.get(), nullptr);
  return take_packets(*encoder_, *packet_, take);
}

}  // namespace liveavatar
