// What the measurements share: operands of random values, and the time of a call.
#include <algorithm>
#include <chrono>

#include "gpu_check.h"
#include "ops/elementwise.h"
#include "ops/transfer.h"
#include "session/noise.h"

namespace liveavatar::gpu_check {

// A card that multiplies equal values takes less power, and is quicker, than with those of a model. The values repeat
// after a prime number of them, so that rows differ.
std::vector<float> noise_values(int64_t count) {
  constexpr size_t kPeriod = 65537;
  constexpr uint64_t kSeed = 420;
  std::vector<float> values(static_cast<size_t>(count));
  const size_t drawn = std::min(values.size(), kPeriod);
  fill_noise(kSeed, 0, {values.data(), drawn});
  for (size_t i = drawn; i < values.size(); ++i) values[i] = values[i - drawn];
  return values;
}

Status fill_with_noise(Backend& backend, Budget& budget, const Tensor& t) {
  const std::vector<float> values = noise_values(t.elements());
  LA_ASSIGN_OR_RETURN(OwnedTensor f32, OwnedTensor::allocate(budget, MemoryCategory::kRuntime, t.shape, DType::kF32));
  backend.upload(values.data(), f32.tensor);
  ops::copy(backend, f32.tensor, t);
  return backend.synchronize();  // before f32 is freed
}

Expected<double> seconds_per_call(Backend& backend, const std::function<void()>& call) {
  using Clock = std::chrono::steady_clock;
  constexpr double kLongEnough = 0.2;
  call();
  LA_RETURN_IF_ERROR(backend.synchronize());
  for (int64_t calls = 1;; calls *= 2) {
    const Clock::time_point start = Clock::now();
    for (int64_t i = 0; i < calls; ++i) call();
    LA_RETURN_IF_ERROR(backend.synchronize());
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (seconds >= kLongEnough) return seconds / double(calls);
  }
}

}  // namespace liveavatar::gpu_check
