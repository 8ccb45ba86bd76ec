// The demo's voice as it would be pushed, and ways to cut it.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "support/mini.h"
#include "support/read_mono.h"

namespace liveavatar {

using Samples = std::vector<int16_t>;

inline Samples demo_voice(int rate_hz = 16000, double seconds = 3) {
  Samples samples;
  const std::vector<float> voice = *read_mono(kSource + "/assets/demo/voice.wav", rate_hz);
  for (float x : voice) samples.push_back(static_cast<int16_t>(std::lrint(std::clamp(x, -1.0f, 1.0f) * 32767)));
  samples.resize(std::min(samples.size(), static_cast<size_t>(seconds * rate_hz)));
  return samples;
}

inline Samples part(const Samples& all, size_t first, size_t count) {
  first = std::min(all.size(), first);
  return Samples(all.begin() + static_cast<int64_t>(first),
                 all.begin() + static_cast<int64_t>(std::min(all.size(), first + count)));
}

// In pieces of `piece` samples; 0: all at once.
template <typename Push>
void push_in_pieces(const Samples& samples, size_t piece, const Push& push) {
  if (piece == 0) piece = samples.size();
  for (size_t at = 0; at < samples.size(); at += piece)
    push(std::span(samples).subspan(at, std::min(piece, samples.size() - at)));
}

}  // namespace liveavatar
