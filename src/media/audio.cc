#include "media/audio.h"

#include <soxr.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "media/downmix.h"
#include "media/ffmpeg.h"

namespace liveavatar {
namespace {

// Frames of any rate, format and layout as one stream: the rate of the first, mono or stereo.
class FfmpegAudio : public AudioStream {
 public:
  FfmpegAudio(std::string path, Input input) : path_(std::move(path)), input_(std::move(input)) {}
  std::string where() const override { return path_; }
  int sample_rate_hz() const override { return rate_; }
  int channels() const override { return channels_; }

  // Decodes the first frame, which decides.
  Status begin() {
    if (!next_frame()) return corrupt(path_ + ": there are no samples in this sound; give one that plays");
    rate_ = input_.frame->sample_rate;
    channels_ = std::min(2, input_.frame->ch_layout.nb_channels);
    if (!sensible())
      return corrupt(path_ +
                     ": the sample rate or the number of channels is absurd; export the sound again, as 16-bit WAV");
    mix_.emplace(channels_);
    return convert();
  }

  Expected<int64_t> read(float* interleaved, int64_t frames) override {
    size_t wanted = static_cast<size_t>(frames * channels_), done = 0;
    while (done < wanted) {
      if (at_ == ready_.size()) {
        LA_RETURN_IF_ERROR(refill());
        if (ready_.empty()) break;
      }
      size_t count = std::min(wanted - done, ready_.size() - at_);
      std::copy_n(ready_.begin() + static_cast<int64_t>(at_), count, interleaved + done);
      at_ += count;
      done += count;
    }
    return static_cast<int64_t>(done) / channels_;
  }

  Status rewind() override {
    LA_ASSIGN_OR_RETURN(Input again, Input::open(path_, AVMEDIA_TYPE_AUDIO, "a sound"));
    std::swap(input_, again);
    ready_.clear();
    at_ = 0;
    resampler_.reset();
    mix_.emplace(channels_);
    return {};
  }

 private:
  bool sensible() const {
    const AVFrame& f = *input_.frame;
    return f.sample_rate >= 1000 && f.sample_rate <= 768000 && f.ch_layout.nb_channels >= 1 &&
           f.ch_layout.nb_channels <= 64;
  }

  bool next_frame() {
    do {
      if (!input_.next()) return false;
    } while (input_.frame->nb_samples == 0);
    return true;
  }

  // The next samples; none at the end.
  Status refill() {
    ready_.clear();
    at_ = 0;
    while (ready_.empty() && next_frame()) {
      if (sensible()) LA_RETURN_IF_ERROR(convert());  // else a damaged piece
    }
    if (ready_.empty()) LA_RETURN_IF_ERROR(resample_to_end());
    return {};
  }

  // Appends the frame to ready_.
  Status convert() {
    int rate = input_.frame->sample_rate;
    if (rate != resampled_rate_) LA_RETURN_IF_ERROR(resample_to_end());
    if (rate == rate_) {
      mix_->append(*input_.frame, ready_);
      return check_samples();
    }
    if (!resampler_) LA_RETURN_IF_ERROR(open_resampler(rate));
    mixed_.clear();
    mix_->append(*input_.frame, mixed_);
    LA_RETURN_IF_ERROR(check_samples());
    return resample(mixed_.data(), input_.frame->nb_samples);
  }

  // A decoder's wild samples are damage, as a missing piece is. Samples that were stored so are a mistake of whoever
  // wrote the file, and a voice of zeros or of full-scale noise would not say so.
  Status check_samples() const {
    constexpr const char* kCure = "; export the sound again, as 16-bit WAV";
    const AVCodecID codec = input_.decoder->codec_id;
    const bool stored = codec == AV_CODEC_ID_PCM_F32LE || codec == AV_CODEC_ID_PCM_F32BE ||
                        codec == AV_CODEC_ID_PCM_F64LE || codec == AV_CODEC_ID_PCM_F64BE;
    if (!stored || mix_->loudest() <= Downmix::kLoudest) return {};
    if (std::isinf(mix_->loudest())) return corrupt(path_ + ": a sample is NaN or infinite" + kCure);
    return corrupt(path_ + ": samples of more than " + std::to_string(int(Downmix::kLoudest)) +
                   " times full scale, which is 1" + kCure);
  }

  Status open_resampler(int rate) {
    FreeLayout layout;
    av_channel_layout_default(&layout.layout, channels_);
    SwrContext* resampler = nullptr;
    int code = swr_alloc_set_opts2(&resampler, &layout.layout, AV_SAMPLE_FMT_FLT, rate_, &layout.layout,
                                   AV_SAMPLE_FMT_FLT, rate, kQuiet, nullptr);
    resampler_.reset(resampler);
    if (code < 0 || swr_init(resampler) < 0)
      return unsupported(path_ + ": a piece at " + std::to_string(rate) +
                         " Hz cannot be resampled; convert the sound to one rate");
    resampled_rate_ = rate;
    return {};
  }

  Status resample(const float* samples, int count) {
    int room = std::max(1, swr_get_out_samples(resampler_.get(), count));
    size_t before = ready_.size();
    ready_.resize(before + static_cast<size_t>(room * channels_));
    auto* out = reinterpret_cast<uint8_t*>(ready_.data() + before);
    auto* in = reinterpret_cast<const uint8_t*>(samples);
    int made = swr_convert(resampler_.get(), &out, room, samples ? &in : nullptr, count);
    ready_.resize(before + static_cast<size_t>(std::max(0, made) * channels_));
    return made < 0 ? io_error(path_ + ": the sound could not be resampled (" + ffmpeg_error(made) +
                               "); convert it to a 16-bit WAV")
                    : Status();
  }

  // What the resampler still holds.
  Status resample_to_end() {
    Status status = resampler_ ? resample(nullptr, 0) : Status();
    resampler_.reset();
    resampled_rate_ = 0;
    return status;
  }

  std::string path_;
  Input input_;
  int rate_ = 0, channels_ = 0;
  std::optional<Downmix> mix_;
  Owned<SwrContext> resampler_;
  int resampled_rate_ = 0;            // that the resampler takes
  std::vector<float> mixed_, ready_;  // interleaved; at the frame's rate and at rate_
  size_t at_ = 0;                     // in ready_
};

struct DeleteSoxr {
  void operator()(soxr* s) const { soxr_delete(s); }
};

class MonoReader : public MonoSource {
 public:
  MonoReader(std::string path, std::unique_ptr<AudioStream> audio, int rate_hz)
      : path_(std::move(path)), audio_(std::move(audio)), rate_hz_(rate_hz) {}
  std::string where() const override { return path_; }

  // Two channels that cancel in their average: the louder one alone is taken.
  Status choose_channel() {
    if (audio_->channels() != 2) return {};
    double left = 0, right = 0, middle = 0;
    std::vector<float> chunk(static_cast<size_t>(2 * kChunk));
    int64_t heard = 0, seen = 0, rate = audio_->sample_rate_hz();
    while (heard < kHeardSeconds * rate && seen < kSeenSeconds * rate) {
      LA_ASSIGN_OR_RETURN(int64_t got, audio_->read(chunk.data(), kChunk));
      if (got == 0) break;
      double before = left + right;
      for (size_t i = 0; i < static_cast<size_t>(2 * got); i += 2) {
        double l = chunk[i], r = chunk[i + 1], m = (l + r) / 2;
        left += l * l;
        right += r * r;
        middle += m * m;
      }
      seen += got;
      heard += left + right - before > kSilence * double(got) ? got : 0;
    }
    if (middle < kCancelled * std::max(left, right)) channel_ = right > left ? 1 : 0;
    return audio_->rewind();
  }

  std::string note() const override {
    if (channel_ < 0) return "";
    return path_ + ": the voice's two channels cancel each other; the " + (channel_ == 0 ? "left" : "right") +
           " one is taken";
  }

  Status begin() {
    input_total_ = output_total_ = 0;
    ended_ = false;
    if (audio_->sample_rate_hz() == rate_hz_) return {};
    soxr_error_t error = nullptr;
    soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
    resampler_.reset(soxr_create(audio_->sample_rate_hz(), rate_hz_, 1, &error, &io, &quality, nullptr));
    return error ? not_resampled(error) : Status();
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
      soxr_error_t error =
          soxr_process(resampler_.get(), flush ? nullptr : mixed_.data() + mixed_at_,
                       flush ? 0 : mixed_.size() - mixed_at_, &used, samples, static_cast<size_t>(count), &made);
      if (error != nullptr) return not_resampled(error);
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
  // So much of the voice, or of the file where it is silent, decides; energies are of a sample.
  static constexpr int64_t kHeardSeconds = 20, kSeenSeconds = 600;
  static constexpr double kSilence = 1e-7, kCancelled = 0.05;

  // Channels averaged, or the one that was chosen, at the sound's own rate.
  Expected<int64_t> read_mixed(float* samples, int64_t count) {
    int64_t channels = audio_->channels();
    count = std::min(count, kChunk);
    interleaved_.resize(static_cast<size_t>(count * channels));
    LA_ASSIGN_OR_RETURN(int64_t got, audio_->read(interleaved_.data(), count));
    for (int64_t i = 0; i < got; ++i) {
      float sum = 0;
      for (int64_t c = 0; c < channels; ++c) sum += interleaved_[static_cast<size_t>(i * channels + c)];
      samples[i] = channel_ < 0 ? sum / static_cast<float>(channels)
                                : interleaved_[static_cast<size_t>(i * channels + channel_)];
    }
    input_total_ += got;
    return got;
  }

  Status not_resampled(const std::string& error) const {
    return io_error(path_ + ": the sound cannot be resampled (" + error + "); convert it to a WAV of 16 kHz");
  }

  std::string path_;
  std::unique_ptr<AudioStream> audio_;
  int rate_hz_;
  int64_t channel_ = -1;  // -1: the average
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
  auto mono = std::make_unique<MonoReader>(path, std::move(audio), rate_hz);
  LA_RETURN_IF_ERROR(mono->choose_channel());
  LA_RETURN_IF_ERROR(mono->begin());
  return std::unique_ptr<MonoSource>(std::move(mono));
}

Expected<double> sound_seconds(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioStream> stream, open_audio(path));  // what is no sound is refused here
  LA_ASSIGN_OR_RETURN(Input input, Input::open(path, AVMEDIA_TYPE_AUDIO, "a sound"));
  if (input.format->duration > 0) return double(input.format->duration) / AV_TIME_BASE;
  std::vector<float> chunk(static_cast<size_t>(stream->channels()) << 14);
  for (int64_t frames = 0;;) {
    LA_ASSIGN_OR_RETURN(int64_t got, stream->read(chunk.data(), 1 << 14));
    if (got == 0) return double(frames) / stream->sample_rate_hz();
    frames += got;
  }
}

}  // namespace liveavatar
