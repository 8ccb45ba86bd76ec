#include "media/downmix.h"

#include <algorithm>
#include <cmath>
#include <limits>

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

struct Sides {
  float left = 0, right = 0;
};

Sides sides_of(AVChannel channel) {
  constexpr float kBeside = 0.70710678f, kLow = 0.5f;
  switch (channel) {
    case AV_CHAN_FRONT_LEFT:
    case AV_CHAN_FRONT_LEFT_OF_CENTER:
    case AV_CHAN_STEREO_LEFT:
      return {1, 0};
    case AV_CHAN_FRONT_RIGHT:
    case AV_CHAN_FRONT_RIGHT_OF_CENTER:
    case AV_CHAN_STEREO_RIGHT:
      return {0, 1};
    case AV_CHAN_FRONT_CENTER:
    case AV_CHAN_AMBISONIC_BASE:  // all directions together
      return {1, 1};
    case AV_CHAN_BACK_LEFT:
    case AV_CHAN_SIDE_LEFT:
    case AV_CHAN_TOP_FRONT_LEFT:
    case AV_CHAN_TOP_BACK_LEFT:
    case AV_CHAN_TOP_SIDE_LEFT:
    case AV_CHAN_WIDE_LEFT:
    case AV_CHAN_SURROUND_DIRECT_LEFT:
    case AV_CHAN_BOTTOM_FRONT_LEFT:
      return {kBeside, 0};
    case AV_CHAN_BACK_RIGHT:
    case AV_CHAN_SIDE_RIGHT:
    case AV_CHAN_TOP_FRONT_RIGHT:
    case AV_CHAN_TOP_BACK_RIGHT:
    case AV_CHAN_TOP_SIDE_RIGHT:
    case AV_CHAN_WIDE_RIGHT:
    case AV_CHAN_SURROUND_DIRECT_RIGHT:
    case AV_CHAN_BOTTOM_FRONT_RIGHT:
      return {0, kBeside};
    case AV_CHAN_LOW_FREQUENCY:
    case AV_CHAN_LOW_FREQUENCY_2:
      return {kLow, kLow};
    default:
      if (channel > AV_CHAN_AMBISONIC_BASE && channel <= AV_CHAN_AMBISONIC_END) return {};  // directions, signed
      return {kBeside, kBeside};                                                            // in the middle, or unknown
  }
}

}  // namespace

void Downmix::set_layout(const AVChannelLayout& layout) {
  av_channel_layout_copy(&from_.layout, &layout);
  FreeLayout named;
  av_channel_layout_copy(&named.layout, &layout);
  int count = layout.nb_channels;
  if (layout.order == AV_CHANNEL_ORDER_UNSPEC) {
    av_channel_layout_uninit(&named.layout);
    av_channel_layout_default(&named.layout, count);
  }
  bool average = named.layout.order == AV_CHANNEL_ORDER_UNSPEC;
  std::vector<Sides> sides;
  float most = 0;
  for (int c = 0; c < count; ++c) {
    auto channel = av_channel_layout_channel_from_index(&named.layout, static_cast<unsigned>(c));
    sides.push_back(average ? Sides{1, 1} : sides_of(channel));
    most = std::max({most, sides.back().left, sides.back().right});
  }
  // Without front channels the others become the front.
  float scale = average || most == 0 ? 1.0f / static_cast<float>(count) : 1.0f / most;
  weights_.assign(static_cast<size_t>(channels_ * count), 0.0f);
  for (int c = 0; c < count; ++c) {
    const Sides& s = sides[static_cast<size_t>(c)];
    auto weight = [&](int out) -> float& { return weights_[static_cast<size_t>(out * count + c)]; };
    if (count == 1) {
      for (int out = 0; out < channels_; ++out) weight(out) = 1;
    } else if (channels_ == 1) {
      weight(0) = (s.left + s.right) / 2 * scale;
    } else {
      weight(0) = s.left * scale;
      weight(1) = s.right * scale;
    }
  }
  sums_ = count > channels_ && !average;
  gain_ = 1;
}

// A gain that keeps the peak at 1 or below, at once, and comes back within a second or so.
float Downmix::limited(float peak) {
  constexpr float kRecovery = 5e-5f;
  gain_ += (1 - gain_) * kRecovery;
  if (peak * gain_ > 1) gain_ = 1 / peak;
  return gain_;
}

void Downmix::append(const AVFrame& frame, std::vector<float>& out) {
  if (weights_.empty() || av_channel_layout_compare(&from_.layout, &frame.ch_layout) != 0) set_layout(frame.ch_layout);
  int count = frame.ch_layout.nb_channels;
  std::vector<float> in(static_cast<size_t>(count));
  for (int64_t i = 0; i < frame.nb_samples; ++i) {
    for (int c = 0; c < count; ++c) {
      float value = sample_at(frame, c, i, count);
      bool number = std::isfinite(value);
      loudest_ = std::max(loudest_, number ? std::fabs(value) : std::numeric_limits<float>::infinity());
      in[static_cast<size_t>(c)] = number ? std::clamp(value, -kLoudest, kLoudest) : 0.0f;
    }
    float mixed[2] = {0, 0}, peak = 0;
    for (int o = 0; o < channels_; ++o) {
      for (int c = 0; c < count; ++c)
        mixed[o] += weights_[static_cast<size_t>(o * count + c)] * in[static_cast<size_t>(c)];
      peak = std::max(peak, std::fabs(mixed[o]));
    }
    float gain = sums_ ? limited(peak) : 1.0f;
    for (int o = 0; o < channels_; ++o) out.push_back(mixed[o] * gain);
  }
}

}  // namespace liveavatar
