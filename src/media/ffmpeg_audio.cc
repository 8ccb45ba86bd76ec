#include "media/ffmpeg_audio.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "media/downmix.h"
#include "media/ffmpeg.h"

namespace liveavatar {
namespace {

Expected<Input> open_sound(const SharedFile& file) { return Input::open(file, AVMEDIA_TYPE_AUDIO, "audio"); }

// Frames of any rate, format and layout as one stream: the rate of the first, mono or stereo.
class FfmpegAudio : public AudioStream {
 public:
  FfmpegAudio(SharedFile file, Input input) : file_(std::move(file)), input_(std::move(input)) {}
  std::string where() const override { return file_->path(); }
  int sample_rate_hz() const override { return rate_; }
  int channels() const override { return channels_; }

  // Decodes the first frame, which decides.
  Status begin() {
    if (!next_frame()) {
      LA_RETURN_IF_ERROR(input_.status());
      return corrupt(file_->path() + ": there are no samples in this audio; give one that plays");
    }
    rate_ = input_.frame->sample_rate;
    channels_ = std::min(2, input_.frame->ch_layout.nb_channels);
    if (!sensible())
      return corrupt(file_->path() +
                     ": the sample rate or the number of channels is absurd; export the audio again, as 16-bit WAV");
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

  // Decoded from the start again: a seek would not give the same samples in every format.
  Status rewind() override {
    LA_ASSIGN_OR_RETURN(Input again, open_sound(file_));
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
    LA_RETURN_IF_ERROR(input_.status());
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
    constexpr const char* kAdvice = "; export the audio again, as 16-bit WAV";
    const AVCodecID codec = input_.decoder->codec_id;
    const bool stored = codec == AV_CODEC_ID_PCM_F32LE || codec == AV_CODEC_ID_PCM_F32BE ||
                        codec == AV_CODEC_ID_PCM_F64LE || codec == AV_CODEC_ID_PCM_F64BE;
    if (!stored || mix_->loudest() <= Downmix::kLoudest) return {};
    if (std::isinf(mix_->loudest())) return corrupt(file_->path() + ": a sample is NaN or infinite" + kAdvice);
    return corrupt(file_->path() + ": samples of more than " + std::to_string(int(Downmix::kLoudest)) +
                   " times full scale, which is 1" + kAdvice);
  }

  Status open_resampler(int rate) {
    FreeLayout layout;
    av_channel_layout_default(&layout.layout, channels_);
    SwrContext* resampler = nullptr;
    int code = swr_alloc_set_opts2(&resampler, &layout.layout, AV_SAMPLE_FMT_FLT, rate_, &layout.layout,
                                   AV_SAMPLE_FMT_FLT, rate, kQuiet, nullptr);
    resampler_.reset(resampler);
    if (code < 0 || swr_init(resampler) < 0)
      return unsupported(file_->path() + ": a piece at " + std::to_string(rate) +
                         " Hz cannot be resampled; convert the audio to one rate");
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
    return made < 0 ? io_error(file_->path() + ": the audio could not be resampled (" + ffmpeg_error(made) +
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

  SharedFile file_;
  Input input_;
  int rate_ = 0, channels_ = 0;
  std::optional<Downmix> mix_;
  Owned<SwrContext> resampler_;
  int resampled_rate_ = 0;            // that the resampler takes
  std::vector<float> mixed_, ready_;  // interleaved; at the frame's rate and at rate_
  size_t at_ = 0;                     // in ready_
};

}  // namespace

Expected<OpenedAudio> open_audio(const SharedFile& file) {
  LA_ASSIGN_OR_RETURN(Input input, open_sound(file));
  OpenedAudio opened;
  const AVFormatContext& format = *input.format;
  if (format.duration > 0) opened.seconds = double(format.duration) / AV_TIME_BASE;
  opened.guessed = format.duration_estimation_method == AVFMT_DURATION_FROM_BITRATE;
  auto stream = std::make_unique<FfmpegAudio>(file, std::move(input));
  LA_RETURN_IF_ERROR(stream->begin());
  opened.stream = std::move(stream);
  return opened;
}

}  // namespace liveavatar
