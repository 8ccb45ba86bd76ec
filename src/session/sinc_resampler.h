// Resampling to 16 kHz by position: a windowed sinc, so that a sample depends on where it is and on nothing before.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <numeric>
#include <span>
#include <vector>

#include "core/mono_source.h"

namespace liveavatar {

class SincResampler {
 public:
  explicit SincResampler(int rate_hz) : rate_hz_(rate_hz) {
    if (rate_hz == kModelRateHz) return;
    const double lower = std::min(rate_hz, kModelRateHz);
    cutoff_ = kPassed * lower / rate_hz;
    reach_ = static_cast<int64_t>(std::ceil(kZeros / cutoff_));
    fill_table();
  }
  // Samples of the input on each side of a position that its value depends on.
  int64_t reach() const { return reach_; }
  size_t bytes() const { return table_.size() * sizeof(float); }

  // Samples [first, first + out.size()) at 16 kHz -> out, -1..1. in: from position in_first on; zeros around it.
  void run(std::span<const int16_t> in, int64_t in_first, int64_t first, std::span<float> out) const {
    constexpr float kScale = 1.0f / 32768;
    const auto size = static_cast<int64_t>(in.size());
    for (size_t i = 0; i < out.size(); ++i) {
      const int64_t scaled = (first + static_cast<int64_t>(i)) * rate_hz_;
      const int64_t at = scaled / kModelRateHz, phase = scaled % kModelRateHz;
      if (reach_ == 0) {
        const int64_t index = at - in_first;
        out[i] = index >= 0 && index < size ? kScale * float(in[static_cast<size_t>(index)]) : 0.0f;
        continue;
      }
      const float* taps = &table_[static_cast<size_t>(phase / step_ * 2 * reach_)];
      const int64_t left = at - reach_ + 1 - in_first;
      const int64_t begin = std::max<int64_t>(0, -left), end = std::min(2 * reach_, size - left);
      float sum = 0;
      for (int64_t k = begin; k < end; ++k) sum += taps[k] * float(in[static_cast<size_t>(left + k)]);
      out[i] = kScale * sum;
    }
  }

 private:
  static constexpr double kPassed = 0.94, kZeros = 24;  // of the band; of the sinc on each side

  // Taps for each of the positions between two samples that occur.
  void fill_table() {
    step_ = std::gcd(int64_t{rate_hz_}, int64_t{kModelRateHz});
    const int64_t phases = kModelRateHz / step_;
    for (int64_t p = 0; p < phases; ++p) {
      std::vector<double> taps;
      double sum = 0;
      for (int64_t k = 0; k < 2 * reach_; ++k) {
        taps.push_back(tap(double(k - reach_ + 1) - double(p) / double(phases)));
        sum += taps.back();
      }
      for (double t : taps) table_.push_back(static_cast<float>(t / sum));
    }
  }
  double tap(double distance) const {
    const double x = std::numbers::pi * distance, edge = distance / double(reach_);
    if (std::abs(edge) >= 1) return 0;
    const double window = 0.42 + 0.5 * std::cos(std::numbers::pi * edge) + 0.08 * std::cos(2 * std::numbers::pi * edge);
    return window * (distance == 0 ? cutoff_ : std::sin(cutoff_ * x) / x);
  }

  int rate_hz_ = kModelRateHz;
  int64_t reach_ = 0, step_ = 1;
  double cutoff_ = 1;
  std::vector<float> table_;  // [phases, 2 * reach]
};

}  // namespace liveavatar
