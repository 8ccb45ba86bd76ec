#include "media/mono_reader.h"

#include <soxr.h>

#include <algorithm>
#include <string>
#include <vector>

namespace liveavatar {
namespace {

struct DeleteSoxr {
  void operator()(soxr* s) const { soxr_delete(s); }
};

class MonoReader : public MonoSource {
 public:
  MonoReader(std::unique_ptr<AudioStream> audio, int rate_hz) : audio_(std::move(audio)), rate_hz_(rate_hz) {}
  std::string where() const override { return audio_->where(); }

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
    return where() + ": the voice's two channels cancel each other; the " + (channel_ == 0 ? "left" : "right") +
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
    // A resampler ends a sample early or late; the length is guaranteed: ceil(in * rate / own rate).
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

  // Channels averaged, or the one that was chosen, at the audio's own rate.
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
    return io_error(where() + ": the audio cannot be resampled (" + error + "); convert it to a WAV of 16 kHz");
  }

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

Expected<std::unique_ptr<MonoSource>> mono_of(std::unique_ptr<AudioStream> audio, int rate_hz) {
  auto mono = std::make_unique<MonoReader>(std::move(audio), rate_hz);
  LA_RETURN_IF_ERROR(mono->choose_channel());
  LA_RETURN_IF_ERROR(mono->begin());
  return std::unique_ptr<MonoSource>(std::move(mono));
}

}  // namespace liveavatar
