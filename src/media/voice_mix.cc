#include "media/voice_mix.h"

#include <algorithm>
#include <cmath>

#include "media/ffmpeg.h"

namespace liveavatar {
namespace {

constexpr int64_t kChunkFrames = 4096;

// A voice in the mix's rate and channels: ceil(frames * rate / own rate) frames, then nothing.
class ConvertedVoice {
 public:
  static Expected<ConvertedVoice> open(const std::string& path) {
    ConvertedVoice voice;
    voice.path_ = path;
    LA_ASSIGN_OR_RETURN(voice.audio_, open_audio(path));
    return voice;
  }
  const AudioStream& audio() const { return *audio_; }
  const std::string& path() const { return path_; }

  Status convert_to(int rate_hz, int channels) {
    rate_hz_ = rate_hz;
    channels_ = channels;
    return begin();
  }

  Status rewind() {
    LA_RETURN_IF_ERROR(audio_->rewind());
    return begin();
  }

  // Adds up to `frames` frames to `sum`; how many it had.
  Expected<int64_t> add(float* sum, int64_t frames) {
    while (waiting_frames() < frames && !ended_) LA_RETURN_IF_ERROR(convert());
    int64_t got = std::min(frames, waiting_frames());
    for (int64_t i = 0; i < got * channels_; ++i) sum[i] += waiting_[static_cast<size_t>(i)];
    waiting_.erase(waiting_.begin(), waiting_.begin() + got * channels_);
    return got;
  }

 private:
  int64_t waiting_frames() const { return static_cast<int64_t>(waiting_.size()) / channels_; }

  Status begin() {
    waiting_.clear();
    ended_ = false;
    read_ = made_ = 0;
    AVChannelLayout from{}, to{};
    av_channel_layout_default(&from, audio_->channels());
    av_channel_layout_default(&to, channels_);
    SwrContext* resampler = nullptr;
    int code = swr_alloc_set_opts2(&resampler, &to, AV_SAMPLE_FMT_FLT, rate_hz_, &from, AV_SAMPLE_FMT_FLT,
                                   audio_->sample_rate_hz(), 0, nullptr);
    resampler_.reset(resampler);
    if (code < 0 || swr_init(resampler) < 0)
      return unsupported(path_ + ": this voice's channels cannot be mixed with the others; convert it to mono");
    return {};
  }

  Status convert() {
    in_.resize(static_cast<size_t>(kChunkFrames * audio_->channels()));
    LA_ASSIGN_OR_RETURN(int64_t got, audio_->read(in_.data(), kChunkFrames));
    read_ += got;
    int room = swr_get_out_samples(resampler_.get(), static_cast<int>(got));
    out_.resize(static_cast<size_t>(std::max(room, 1) * channels_));
    uint8_t* to = reinterpret_cast<uint8_t*>(out_.data());
    const uint8_t* from = reinterpret_cast<const uint8_t*>(in_.data());
    int made = swr_convert(resampler_.get(), &to, room, got > 0 ? &from : nullptr, static_cast<int>(got));
    if (made < 0) return io_error(path_ + ": the voice could not be converted; convert it to a 16-bit WAV");
    waiting_.insert(waiting_.end(), out_.begin(), out_.begin() + int64_t(made) * channels_);
    made_ += made;
    if (got == 0 && made == 0) end_at_full_length();
    return {};
  }

  // A resampler ends a sample early or late.
  void end_at_full_length() {
    int64_t rate = audio_->sample_rate_hz(), total = (read_ * rate_hz_ + rate - 1) / rate;
    int64_t kept = std::max<int64_t>(0, waiting_frames() + total - made_);
    waiting_.resize(static_cast<size_t>(kept * channels_), 0.0f);
    ended_ = true;
  }

  std::string path_;
  std::unique_ptr<AudioStream> audio_;
  Owned<SwrContext> resampler_;
  int rate_hz_ = 0, channels_ = 1;
  std::vector<float> in_, out_, waiting_;
  int64_t read_ = 0, made_ = 0;  // frames
  bool ended_ = false;
};

class Mix : public AudioStream {
 public:
  Mix(std::vector<ConvertedVoice> voices, MixRule rule) : voices_(std::move(voices)), rule_(rule) {}
  std::string where() const override { return voices_.front().path(); }
  int sample_rate_hz() const override { return rate_hz_; }
  int channels() const override { return channels_; }

  Status begin() {
    rate_hz_ = voices_.front().audio().sample_rate_hz();
    channels_ = std::min(voices_.front().audio().channels(), 2);
    for (const ConvertedVoice& voice : voices_) {
      if (rule_ == MixRule::kOriginal) break;
      rate_hz_ = std::max(rate_hz_, voice.audio().sample_rate_hz());
      channels_ = std::max(channels_, std::min(voice.audio().channels(), 2));
    }
    for (ConvertedVoice& voice : voices_) LA_RETURN_IF_ERROR(voice.convert_to(rate_hz_, channels_));
    if (rule_ == MixRule::kOriginal) {
      gain_ = 1.0f / static_cast<float>(voices_.size());
      return {};
    }
    return measure();
  }

  Expected<int64_t> read(float* interleaved, int64_t frames) override {
    LA_ASSIGN_OR_RETURN(int64_t got, sum(interleaved, std::min(frames, kChunkFrames)));
    for (int64_t i = 0; i < got * channels_; ++i) {
      interleaved[i] *= gain_;
      if (rule_ == MixRule::kOriginal) interleaved[i] = to_16_bit(interleaved[i]);
    }
    return got;
  }

  Status rewind() override {
    for (ConvertedVoice& voice : voices_) LA_RETURN_IF_ERROR(voice.rewind());
    return {};
  }

 private:
  static float to_16_bit(float value) {
    return std::clamp(std::nearbyint(value * 32768.0f), -32768.0f, 32767.0f) / 32768.0f;
  }

  // To the longest voice's end, or the shortest's.
  Expected<int64_t> sum(float* interleaved, int64_t frames) {
    std::fill_n(interleaved, frames * channels_, 0.0f);
    int64_t longest = 0, shortest = frames;
    for (ConvertedVoice& voice : voices_) {
      LA_ASSIGN_OR_RETURN(int64_t got, voice.add(interleaved, frames));
      longest = std::max(longest, got);
      shortest = std::min(shortest, got);
    }
    return rule_ == MixRule::kOriginal ? shortest : longest;
  }

  Status measure() {
    std::vector<float> chunk(static_cast<size_t>(kChunkFrames * channels_));
    float peak = 0;
    while (true) {
      LA_ASSIGN_OR_RETURN(int64_t got, sum(chunk.data(), kChunkFrames));
      if (got == 0) break;
      for (int64_t i = 0; i < got * channels_; ++i) peak = std::max(peak, std::fabs(chunk[static_cast<size_t>(i)]));
    }
    gain_ = peak > 1 ? 1 / peak : 1;
    return rewind();
  }

  std::vector<ConvertedVoice> voices_;
  MixRule rule_;
  int rate_hz_ = 0, channels_ = 1;
  float gain_ = 1;
};

}  // namespace

Expected<std::unique_ptr<AudioStream>> open_mix(const std::vector<std::string>& paths, MixRule rule) {
  if (paths.size() == 1) return open_audio(paths.front());
  std::vector<ConvertedVoice> voices;
  for (const std::string& path : paths) {
    LA_ASSIGN_OR_RETURN(ConvertedVoice voice, ConvertedVoice::open(path));
    voices.push_back(std::move(voice));
  }
  auto mix = std::make_unique<Mix>(std::move(voices), rule);
  LA_RETURN_IF_ERROR(mix->begin());
  return std::unique_ptr<AudioStream>(std::move(mix));
}

}  // namespace liveavatar
