#include "media/audio.h"

#include <soxr.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "media/ffmpeg.h"

namespace liveavatar {
namespace {

float sample_at(const AVFrame& frame, int channel, int64_t i, int channels) {
  auto format = static_cast<AVSampleFormat>(frame.format);
  bool planar = av_sample_fmt_is_planar(format) != 0;
  const uint8_t* data = frame.extended_data[planar ? channel : 0];
  int64_t at = planar ? i : i * channels + channel;
  switch (av_get_packed_sample_fmt(format)) {
    case AV_SAMPLE_FMT_U8:
      return (float(data[at]) - 128.0f) / 128.0f;
    case AV_SAMPLE_FMT_S16:
      return float(reinterpret_cast<const int16_t*>(data)[at]) / 32768.0f;
    case AV_SAMPLE_FMT_S32:
      return static_cast<float>(double(reinterpret_cast<const int32_t*>(data)[at]) / 2147483648.0);
    case AV_SAMPLE_FMT_S64:
      return static_cast<float>(double(reinterpret_cast<const int64_t*>(data)[at]) / 9223372036854775808.0);
    case AV_SAMPLE_FMT_FLT:
      return reinterpret_cast<const float*>(data)[at];
    case AV_SAMPLE_FMT_DBL:
      return static_cast<float>(reinterpret_cast<const double*>(data)[at]);
    default:
      return 0;
  }
}

class FfmpegAudio : public AudioStream {
 public:
  FfmpegAudio(std::string path, Input input) : path_(std::move(path)), input_(std::move(input)) {}
  int sample_rate_hz() const override { return rate_; }
  int channels() const override { return channels_; }

  // Decodes the first frame: its rate and channels are the stream's.
  Status begin() {
    if (!decode()) return corrupt(path_ + ": there are no samples in this sound");
    rate_ = input_.frame->sample_rate;
    channels_ = input_.frame->ch_layout.nb_channels;
    if (rate_ < 1000 || rate_ > 768000 || channels_ < 1 || channels_ > 64)
      return corrupt(path_ + ": absurd sample rate or channel count");
    return {};
  }

  Expected<int64_t> read(float* interleaved, int64_t frames) override {
    int64_t done = 0;
    while (done < frames && (at_ < held_ || decode())) {
      if (input_.frame->ch_layout.nb_channels != channels_ || input_.frame->sample_rate != rate_) {
        return corrupt(path_ + ": the sound changes its rate or channels on the way");
      }
      int64_t count = std::min(frames - done, held_ - at_);
      for (int64_t i = 0; i < count * channels_; ++i) {
        float value = sample_at(*input_.frame, int(i % channels_), at_ + i / channels_, channels_);
        interleaved[done * channels_ + i] = std::isfinite(value) ? value : 0.0f;
      }
      at_ += count;
      done += count;
    }
    return done;
  }

  Status rewind() override {
    LA_ASSIGN_OR_RETURN(Input again, Input::open(path_, AVMEDIA_TYPE_AUDIO, "a sound"));
    std::swap(input_, again);
    at_ = held_ = 0;
    return {};
  }

 private:
  bool decode() {
    do {
      if (!input_.next()) return false;
      held_ = input_.frame->nb_samples;
    } while (held_ == 0);
    at_ = 0;
    return true;
  }

  std::string path_;
  Input input_;
  int rate_ = 0, channels_ = 0;
  int64_t at_ = 0, held_ = 0;  // position in and length of the decoded frame
};

struct DeleteSoxr {
  void operator()(soxr* s) const { soxr_delete(s); }
};

class MonoReader : public MonoSource {
 public:
  MonoReader(std::unique_ptr<AudioStream> audio, int rate_hz) : audio_(std::move(audio)), rate_hz_(rate_hz) {}

  Status begin() {
    input_total_ = output_total_ = 0;
    ended_ = false;
    if (audio_->sample_rate_hz() == rate_hz_) return {};
    soxr_error_t error = nullptr;
    soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
    resampler_.reset(soxr_create(audio_->sample_rate_hz(), rate_hz_, 1, &error, &io, &quality, nullptr));
    return error ? unsupported(std::string("the sound cannot be resampled: ") + error) : Status();
  }

  Expected<int64_t> read(float* samples, int64_t count) override {
    if (!resampler_) return read_mixed(samples, count);
    // A resampler ends a sample early or late; the length is a promise: ceil(in * rate / own rate).
    while (true) {
      size_t used = 0, made = 0;
      if (!ended_ && mixed_at_ == mixed_.size()) {
        mixed_.resize(kChunk);
        mixed_at_ = 0;
        LA_ASSIGN_OR_RETURN(int64_t got, read_mixed(mixed_.data(), kChunk));
        mixed_.resize(static_cast<size_t>(got));
        ended_ = got == 0;
      }
      bool flush = ended_ && mixed_at_ == mixed_.size();
      soxr_process(resampler_.get(), flush ? nullptr : mixed_.data() + mixed_at_, flush ? 0 : mixed_.size() - mixed_at_,
                   &used, samples, static_cast<size_t>(count), &made);
      mixed_at_ += used;
      if (made == 0 && !flush) continue;
      int64_t total = (input_total_ * rate_hz_ + audio_->sample_rate_hz() - 1) / audio_->sample_rate_hz();
      int64_t give = static_cast<int64_t>(made);
      if (flush) {
        give = std::min(give, total - output_total_);
        if (made == 0 && output_total_ < total) {
          give = std::min(count, total - output_total_);
          std::fill_n(samples, give, 0.0f);
        }
      }
      output_total_ += give;
      return give;
    }
  }

  Status rewind() override {
    LA_RETURN_IF_ERROR(audio_->rewind());
    mixed_.clear();
    mixed_at_ = 0;
    return begin();
  }

 private:
  static constexpr int64_t kChunk = 8192;

  // Channels averaged, at the sound's own rate.
  Expected<int64_t> read_mixed(float* samples, int64_t count) {
    int64_t channels = audio_->channels();
    count = std::min(count, kChunk);
    interleaved_.resize(static_cast<size_t>(count * channels));
    LA_ASSIGN_OR_RETURN(int64_t got, audio_->read(interleaved_.data(), count));
    for (int64_t i = 0; i < got; ++i) {
      float sum = 0;
      for (int64_t c = 0; c < channels; ++c) sum += interleaved_[static_cast<size_t>(i * channels + c)];
      samples[i] = sum / static_cast<float>(channels);
    }
    input_total_ += got;
    return got;
  }

  std::unique_ptr<AudioStream> audio_;
  int rate_hz_;
  std::unique_ptr<soxr, DeleteSoxr> resampler_;
  std::vector<float> interleaved_, mixed_;
  size_t mixed_at_ = 0;
  int64_t input_total_ = 0, output_total_ = 0;
  bool ended_ = false;
};

}  // namespace

Expected<std::unique_ptr<AudioStream>> open_audio(const std::string& path) {
  LA_ASSIGN_OR_RETURN(Input input, Input::open(path, AVMEDIA_TYPE_AUDIO, "a sound"));
  auto audio = std::make_unique<FfmpegAudio>(path, std::move(input));
  LA_RETURN_IF_ERROR(audio->begin());
  return std::unique_ptr<AudioStream>(std::move(audio));
}

Expected<std::unique_ptr<MonoSource>> open_mono(const std::string& path, int rate_hz) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioStream> audio, open_audio(path));
  auto mono = std::make_unique<MonoReader>(std::move(audio), rate_hz);
  LA_RETURN_IF_ERROR(mono->begin());
  return std::unique_ptr<MonoSource>(std::move(mono));
}

Expected<std::vector<float>> read_mono(const std::string& path, int rate_hz) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<MonoSource> mono, open_mono(path, rate_hz));
  std::vector<float> all, chunk(1 << 14);
  while (true) {
    LA_ASSIGN_OR_RETURN(int64_t got, mono->read(chunk.data(), static_cast<int64_t>(chunk.size())));
    if (got == 0) return all;
    all.insert(all.end(), chunk.begin(), chunk.begin() + got);
  }
}

Expected<double> sound_seconds(const std::string& path) {
  LA_ASSIGN_OR_RETURN(Input input, Input::open(path, AVMEDIA_TYPE_AUDIO, "a sound"));
  if (input.format->duration > 0) return double(input.format->duration) / AV_TIME_BASE;
  LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioStream> stream, open_audio(path));
  std::vector<float> chunk(static_cast<size_t>(stream->channels()) << 14);
  for (int64_t frames = 0;;) {
    LA_ASSIGN_OR_RETURN(int64_t got, stream->read(chunk.data(), 1 << 14));
    if (got == 0) return double(frames) / stream->sample_rate_hz();
    frames += got;
  }
}

}  // namespace liveavatar
