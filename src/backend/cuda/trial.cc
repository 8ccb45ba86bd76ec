#include "backend/cuda/trial.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cuda/handles.h"
#include "core/dtype.h"
#include "core/rounding.h"

namespace liveavatar::cuda {
namespace {

constexpr int kTimedRuns = 5;
// What is compared of a result with more rows: parts evenly over all, the first and the last rows among them.
constexpr int64_t kPartRows = 8, kParts = 8;

using Bytes = std::vector<std::byte>;

DType dtype_of(ElementType type) { return type == ElementType::kF32 ? DType::kF32 : DType::kBF16; }
size_t element_bytes(ElementType type) { return dtype_bytes(dtype_of(type)); }

// Values in [-1, 1), the same in every run. Their number is prime, so that rows of what repeats them differ.
std::vector<float> pattern(uint32_t seed) {
  constexpr size_t kCount = 65521;
  std::vector<float> values(kCount);
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<float>(seed >> 8) * 0x1p-23f - 1.0f;
  }
  return values;
}

Status repeat(CudaDevice& device, void* to, size_t size, const Bytes& bytes) {
  for (size_t done = 0; done < size; done += bytes.size())
    LA_RETURN_IF_ERROR(
        device.write(static_cast<std::byte*>(to) + done, bytes.data(), std::min(bytes.size(), size - done)));
  return {};
}

float root_mean_square(const std::vector<float>& values) {
  double squares = 0;
  for (float value : values) squares += double(value) * value;
  return static_cast<float>(std::sqrt(squares / double(values.size())));
}

// Sums that differ in their order, and in bf16 in the roundings of the bias and the result. NaN is never close.
bool is_close(float got, float want, float typical, ElementType type) {
  const float unit = type == ElementType::kBF16 ? 0x1p-7f : 0x1p-12f;
  return std::fabs(got - want) <= unit * (std::fabs(want) + typical);
}

class RunningTrial {
 public:
  RunningTrial(const Trial& t, CudaDevice& device, void* stream) : t_(t), device_(device), stream_(stream) {}

  Status measure(LibraryChoice& choice) {
    LA_ASSIGN_OR_RETURN(const Bytes want, result_of(t_.own));
    LA_ASSIGN_OR_RETURN(const Bytes got, result_of(t_.by_library));
    LA_ASSIGN_OR_RETURN(const Bytes again, result_of(t_.by_library));
    if (got != again) return unsupported("other bits on a second run");
    LA_RETURN_IF_ERROR(compare(values(got), values(want)));
    LA_ASSIGN_OR_RETURN(choice.own_ms, median_ms(t_.own));
    LA_ASSIGN_OR_RETURN(choice.library_ms, median_ms(t_.by_library));
    return {};
  }

 private:
  using Run = std::function<Status()>;

  // Rows of out. Before the run it holds the residual or what no result is.
  Expected<Bytes> result_of(const Run& enqueue) {
    const size_t row_bytes = static_cast<size_t>(t_.columns) * element_bytes(t_.out.type);
    constexpr size_t kNanBytes = size_t{1} << 18;
    if (t_.residual) {
      constexpr uint32_t kSeed = 5;
      LA_RETURN_IF_ERROR(write_pattern(device_, t_.out.data, t_.rows * t_.columns, t_.out.type, kSeed, 1));
    } else {
      const size_t out_bytes = static_cast<size_t>(t_.rows) * row_bytes;
      LA_RETURN_IF_ERROR(repeat(device_, t_.out.data, out_bytes, Bytes(kNanBytes, std::byte{0xff})));
    }
    LA_RETURN_IF_ERROR(enqueue());
    device_.check(device_.runtime().synchronize(stream_), "an op that was tried out (`tune` off leaves it out)");
    Bytes result(static_cast<size_t>(std::min(t_.rows, kParts * kPartRows)) * row_bytes);
    const size_t part_bytes = std::min(result.size(), static_cast<size_t>(kPartRows) * row_bytes);
    for (size_t at = 0; at < result.size(); at += part_bytes) {
      const size_t bytes = std::min(part_bytes, result.size() - at);
      const auto first = static_cast<size_t>(row(static_cast<int64_t>(at / row_bytes)));
      const auto* out = static_cast<const std::byte*>(t_.out.data);
      LA_RETURN_IF_ERROR(device_.read(out + first * row_bytes, result.data() + at, bytes));
    }
    return result;
  }
  // That of row i of what is compared.
  int64_t row(int64_t i) const {
    if (t_.rows <= kParts * kPartRows) return i;
    return i / kPartRows * (t_.rows - kPartRows) / (kParts - 1) + i % kPartRows;
  }
  std::vector<float> values(const Bytes& bytes) const {
    std::vector<float> floats(bytes.size() / element_bytes(t_.out.type));
    convert_to_f32(bytes.data(), dtype_of(t_.out.type), floats.data(), std::ssize(floats));
    return floats;
  }

  Status compare(const std::vector<float>& got, const std::vector<float>& want) const {
    const float typical = root_mean_square(want);
    for (size_t i = 0; i < want.size(); ++i) {
      if (is_close(got[i], want[i], typical, t_.out.type)) continue;
      const int64_t at = static_cast<int64_t>(i);
      return unsupported("row " + std::to_string(row(at / t_.columns)) + ", column " + std::to_string(at % t_.columns) +
                         " is " + std::to_string(got[i]) + " instead of " + std::to_string(want[i]));
    }
    return {};
  }

  Expected<double> median_ms(const Run& enqueue) {
    LA_ASSIGN_OR_RETURN(const EventHandle start, timer());
    LA_ASSIGN_OR_RETURN(const EventHandle end, timer());
    Runtime& runtime = device_.runtime();
    std::vector<float> times(kTimedRuns);
    for (float& time : times) {
      device_.check(runtime.record(start.get(), stream_), "recording a timer");
      LA_RETURN_IF_ERROR(enqueue());
      device_.check(runtime.record(end.get(), stream_), "recording a timer");
      device_.check(runtime.wait(end.get()), "waiting for a timer");
      device_.check(runtime.elapsed(start.get(), end.get(), &time), "reading a timer");
      LA_RETURN_IF_ERROR(device_.status());
    }
    std::nth_element(times.begin(), times.begin() + kTimedRuns / 2, times.end());
    return double(times[kTimedRuns / 2]);
  }
  Expected<EventHandle> timer() {
    void* event = nullptr;
    if (!device_.check(device_.runtime().create_timer(&event), "creating a timer")) return device_.status();
    return EventHandle(device_.runtime(), event);
  }

  const Trial& t_;
  CudaDevice& device_;
  void* stream_;
};

}  // namespace

LibraryChoice try_out(const Trial& trial, CudaDevice& device, void* stream) {
  LibraryChoice choice;
  choice.what = trial.what;
  const Status measured = RunningTrial(trial, device, stream).measure(choice);
  choice.by_library = measured.ok() && choice.library_ms < choice.own_ms;
  choice.why = measured.ok() ? (choice.by_library ? "right and quicker" : "right, but not quicker")
                             : "refused: " + measured.message();
  return choice;
}

Status write_pattern(CudaDevice& device, void* to, int64_t count, ElementType type, uint32_t seed, float scale) {
  std::vector<float> some = pattern(seed);
  for (float& value : some) value *= scale;
  Bytes bytes(some.size() * element_bytes(type));
  convert_from_f32(some.data(), bytes.data(), dtype_of(type), std::ssize(some));
  return repeat(device, to, static_cast<size_t>(count) * element_bytes(type), bytes);
}

size_t OperandLayout::take(int64_t count, ElementType type) {
  constexpr size_t kAlignment = 256;
  const size_t at = bytes_;
  bytes_ += round_up(static_cast<size_t>(count) * element_bytes(type), kAlignment);
  return at;
}

}  // namespace liveavatar::cuda
