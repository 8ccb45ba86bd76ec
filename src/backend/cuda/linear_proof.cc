#include "backend/cuda/linear_proof.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "backend/cuda/handles.h"
#include "backend/cuda/library_call.h"
#include "backend/cuda/weights.h"
#include "core/dtype.h"
#include "core/rounding.h"

namespace liveavatar::cuda {
namespace {

constexpr int kTimedRuns = 5;
// What is compared of a result with more rows: parts evenly over all, the first and the last rows among them.
constexpr int64_t kPartRows = 8, kParts = 8;

size_t element_bytes(ElementType type) { return type == ElementType::kF32 ? sizeof(float) : sizeof(bf16); }

// Where the operands of a class lie in memory.
struct Operands {
  explicit Operands(const LinearClass& c)
      : x(take(c.m * c.k * 2)),
        w(take(c.n * c.k * 2)),
        bias(take(c.n * 4)),
        gate(take(c.n * 4)),
        out(take(out_bytes(c))) {}
  static int64_t out_bytes(const LinearClass& c) { return c.m * c.n * static_cast<int64_t>(element_bytes(c.out)); }
  size_t bytes = 0;
  size_t x, w, bias, gate, out;

 private:
  size_t take(int64_t size) {
    constexpr size_t kAlignment = 256;
    const size_t at = bytes;
    bytes += round_up(static_cast<size_t>(size), kAlignment);
    return at;
  }
};

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

class LinearProof {
 public:
  LinearProof(const LinearClass& c, LinearLibrary& library, CudaDevice& device, void* stream, std::byte* memory,
              std::byte* scratch)
      : class_(c), library_(library), device_(device), stream_(stream), at_(c), memory_(memory), scratch_(scratch) {
    call_.x = {memory + at_.x, ElementType::kBF16};
    call_.w = packed_matrix(memory + at_.w, DType::kBF16, c.n, c.k);
    call_.m = c.m;
    call_.epilogue.groups = 1;
    call_.epilogue.activation = c.activation;
    if (c.bias) call_.epilogue.bias = reinterpret_cast<const float*>(memory + at_.bias);
    if (c.gate) call_.epilogue.gate = reinterpret_cast<const float*>(memory + at_.gate);
    if (c.residual) call_.epilogue.residual = {memory + at_.out, c.out};  // in place, as in a model
    call_.out = {memory + at_.out, c.out};
    call_.large = has_large_blocks(c.m, c.n);
  }

  LinearChoice run() {
    LinearChoice choice;
    choice.what = describe(class_);
    const Status measured = measure(choice);
    choice.by_library = measured.ok() && choice.library_ms < choice.own_ms;
    choice.why = measured.ok() ? (choice.by_library ? "right and quicker" : "right, but not quicker")
                               : "refused: " + measured.message();
    return choice;
  }

 private:
  using Run = std::function<Status()>;
  using Bytes = std::vector<std::byte>;

  Status measure(LinearChoice& choice) {
    const Run own = [this] {
      device_.check(device_.runtime().kernels().linear_bf16(call_, stream_), "linear");
      return device_.status();
    };
    const Run by_library = [this] { return enqueue_by_library(library_, class_, call_, scratch_, device_, stream_); };
    LA_RETURN_IF_ERROR(write_operands());
    LA_ASSIGN_OR_RETURN(const Bytes want, result_of(own));
    LA_ASSIGN_OR_RETURN(const Bytes got, result_of(by_library));
    LA_ASSIGN_OR_RETURN(const Bytes again, result_of(by_library));
    if (got != again) return unsupported("other bits on a second run");
    LA_RETURN_IF_ERROR(compare(values(got), values(want)));
    LA_ASSIGN_OR_RETURN(choice.own_ms, median_ms(own));
    LA_ASSIGN_OR_RETURN(choice.library_ms, median_ms(by_library));
    return {};
  }

  // Products near 1.
  Status write_operands() {
    const float scale = 3 / std::sqrt(static_cast<float>(class_.k));
    LA_RETURN_IF_ERROR(write(at_.x, class_.m * class_.k, ElementType::kBF16, 1, 1));
    LA_RETURN_IF_ERROR(write(at_.w, class_.n * class_.k, ElementType::kBF16, 2, scale));
    LA_RETURN_IF_ERROR(write(at_.bias, class_.n, ElementType::kF32, 3, 1));
    return write(at_.gate, class_.n, ElementType::kF32, 4, 1);
  }
  Status write(size_t at, int64_t count, ElementType type, uint32_t seed, float scale) {
    std::vector<float> some = pattern(seed);
    for (float& value : some) value *= scale;
    Bytes bytes(some.size() * element_bytes(type));
    convert_from_f32(some.data(), bytes.data(), type == ElementType::kF32 ? DType::kF32 : DType::kBF16,
                     static_cast<int64_t>(some.size()));
    return repeat(at, static_cast<size_t>(count) * element_bytes(type), bytes);
  }
  Status repeat(size_t at, size_t size, const Bytes& bytes) {
    for (size_t done = 0; done < size; done += bytes.size())
      LA_RETURN_IF_ERROR(device_.write(memory_ + at + done, bytes.data(), std::min(bytes.size(), size - done)));
    return {};
  }

  // Rows of out. Before the run it holds the residual or what no result is.
  Expected<Bytes> result_of(const Run& enqueue) {
    const size_t out_bytes = static_cast<size_t>(Operands::out_bytes(class_));
    constexpr size_t kNanBytes = size_t{1} << 18;
    if (class_.residual) {
      LA_RETURN_IF_ERROR(write(at_.out, class_.m * class_.n, class_.out, 5, 1));
    } else {
      LA_RETURN_IF_ERROR(repeat(at_.out, out_bytes, Bytes(kNanBytes, std::byte{0xff})));
    }
    LA_RETURN_IF_ERROR(enqueue());
    device_.check(device_.runtime().synchronize(stream_),
                  "a linear layer that was tried out (`tune` off leaves it out)");
    const size_t row_bytes = out_bytes / static_cast<size_t>(class_.m);
    Bytes result(static_cast<size_t>(std::min(class_.m, kParts * kPartRows)) * row_bytes);
    const size_t part_bytes = std::min(result.size(), static_cast<size_t>(kPartRows) * row_bytes);
    for (size_t at = 0; at < result.size(); at += part_bytes) {
      const size_t bytes = std::min(part_bytes, result.size() - at);
      const int64_t first = row(static_cast<int64_t>(at / row_bytes));
      LA_RETURN_IF_ERROR(
          device_.read(memory_ + at_.out + static_cast<size_t>(first) * row_bytes, result.data() + at, bytes));
    }
    return result;
  }
  // That of row i of what is compared.
  int64_t row(int64_t i) const {
    if (class_.m <= kParts * kPartRows) return i;
    return i / kPartRows * (class_.m - kPartRows) / (kParts - 1) + i % kPartRows;
  }
  std::vector<float> values(const Bytes& bytes) const {
    const size_t count = bytes.size() / element_bytes(class_.out);
    std::vector<float> floats(count);
    convert_to_f32(bytes.data(), class_.out == ElementType::kF32 ? DType::kF32 : DType::kBF16, floats.data(),
                   static_cast<int64_t>(count));
    return floats;
  }

  Status compare(const std::vector<float>& got, const std::vector<float>& want) const {
    const float typical = root_mean_square(want);
    for (size_t i = 0; i < want.size(); ++i) {
      if (is_close(got[i], want[i], typical, class_.out)) continue;
      const int64_t at = static_cast<int64_t>(i);
      return unsupported("row " + std::to_string(row(at / class_.n)) + ", column " + std::to_string(at % class_.n) +
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

  LinearClass class_;
  LinearLibrary& library_;
  CudaDevice& device_;
  void* stream_;
  Operands at_;
  std::byte *memory_, *scratch_;
  LinearCall call_{};
};

}  // namespace

size_t proof_bytes(const LinearClass& c) { return Operands(c).bytes; }

LinearChoice prove(const LinearClass& c, LinearLibrary& library, CudaDevice& device, void* stream, std::byte* memory,
                   std::byte* scratch) {
  return LinearProof(c, library, device, stream, memory, scratch).run();
}

}  // namespace liveavatar::cuda
