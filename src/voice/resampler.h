// Sound at one rate from sound at another, piece by piece.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

struct soxr;

namespace liveavatar {

// s16 mono. One thread at a time. Throws std::bad_alloc.
class Resampler {
 public:
  Resampler(int from_hz, int to_hz);
  // What is made by now; valid until the next call.
  std::span<const int16_t> push(std::span<const int16_t> samples);
  // The rest. Nothing comes after it.
  std::span<const int16_t> finish();

 private:
  struct Delete {
    void operator()(soxr* resampler) const;
  };
  std::span<const int16_t> run(const int16_t* samples, size_t count);

  const double ratio_;
  std::unique_ptr<soxr, Delete> soxr_;  // null: the rates are the same
  std::vector<int16_t> out_;
};

}  // namespace liveavatar
