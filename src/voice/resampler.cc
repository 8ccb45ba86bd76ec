#include "voice/resampler.h"

#include <soxr.h>

#include <new>

namespace liveavatar {

void Resampler::Delete::operator()(soxr* resampler) const { soxr_delete(resampler); }

Resampler::Resampler(int from_hz, int to_hz) : ratio_(double(to_hz) / from_hz) {
  if (from_hz == to_hz) return;
  soxr_io_spec_t s16 = soxr_io_spec(SOXR_INT16_I, SOXR_INT16_I);
  s16.flags = SOXR_NO_DITHER;  // the same sound however it is cut
  const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
  const soxr_runtime_spec_t one_thread = soxr_runtime_spec(1);
  soxr_error_t error = nullptr;
  soxr_.reset(soxr_create(from_hz, to_hz, 1, &error, &s16, &quality, &one_thread));
  if (error != nullptr || !soxr_) throw std::bad_alloc();
}

std::span<const int16_t> Resampler::push(std::span<const int16_t> samples) {
  if (!soxr_) return samples;
  if (samples.empty()) return {};
  return run(samples.data(), samples.size());
}

std::span<const int16_t> Resampler::finish() {
  if (!soxr_) return {};
  return run(nullptr, 0);
}

// samples: null at the end.
std::span<const int16_t> Resampler::run(const int16_t* samples, size_t count) {
  constexpr size_t kStep = 4096;
  size_t used = 0, made = 0;
  for (;;) {
    out_.resize(made + kStep + static_cast<size_t>(double(count - used) * ratio_));
    size_t taken = 0, done = 0;
    const int16_t* in = samples == nullptr ? nullptr : samples + used;
    if (soxr_process(soxr_.get(), in, count - used, &taken, out_.data() + made, out_.size() - made, &done) != nullptr)
      throw std::bad_alloc();
    used += taken;
    made += done;
    const bool is_over = samples == nullptr ? done == 0 : used == count && made < out_.size();
    if (is_over) break;
  }
  return {out_.data(), made};
}

}  // namespace liveavatar
