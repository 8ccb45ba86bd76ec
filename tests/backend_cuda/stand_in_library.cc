#include "stand_in_library.h"

#include <cmath>
#include <vector>

#include "backend/cuda/emulate/stream.h"
#include "core/dtype.h"

namespace liveavatar::cuda {
namespace {

// Device memory of f32 or bf16 as floats; zeros where there is none.
std::vector<float> read(const void* from, int64_t count, ElementType type) {
  std::vector<float> values(static_cast<size_t>(count));
  if (from == nullptr) return values;
  const DType dtype = type == ElementType::kF32 ? DType::kF32 : DType::kBF16;
  std::vector<std::byte> bytes(values.size() * dtype_bytes(dtype));
  emulate::copy_to_host(bytes.data(), from, bytes.size());
  convert_to_f32(bytes.data(), dtype, values.data(), count);
  return values;
}

void write(const std::vector<float>& values, const Output& to) {
  const DType dtype = to.type == ElementType::kF32 ? DType::kF32 : DType::kBF16;
  std::vector<std::byte> bytes(values.size() * dtype_bytes(dtype));
  convert_from_f32(values.data(), bytes.data(), dtype, static_cast<int64_t>(values.size()));
  emulate::copy_to_device(to.data, bytes.data(), bytes.size());
}

float gelu_tanh(float x) { return 0.5f * x * (1 + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x))); }

void plant(StandIn::Fault fault, int run, std::vector<float>& out) {
  if (fault == StandIn::Fault::kWrongValue) out.back() += 0.25f;
  if (fault == StandIn::Fault::kOtherBitsEachTime) out.front() *= 1 + 0x1p-7f * static_cast<float>(run % 2);
}

void compute(const LibraryLinear& c, StandIn::Fault fault, int run) {
  const auto x = read(c.x, c.m * c.k, ElementType::kBF16), w = read(c.w, c.n * c.k, ElementType::kBF16);
  const auto bias = read(c.bias, c.n, c.out.type), residual = read(c.residual, c.m * c.n, c.out.type);
  std::vector<float> out;
  for (int64_t row = 0; row < c.m; ++row) {
    for (int64_t column = 0; column < c.n; ++column) {
      float sum = 0;
      for (int64_t i = c.k; i-- > 0;)  // not in the order of our kernels
        sum += x[static_cast<size_t>(row * c.k + i)] * w[static_cast<size_t>(column * c.k + i)];
      sum += bias[static_cast<size_t>(column)];
      if (c.activation == Activation::kGeluTanh) sum = gelu_tanh(sum);
      out.push_back(sum + residual[out.size()]);
    }
  }
  plant(fault, run, out);
  write(out, c.out);
}

// Element (frame, row, column, channel) of x, 0 outside of its rows and columns.
float at(const std::vector<float>& x, const LibraryConv& c, int64_t frame, int64_t row, int64_t column,
         int64_t channel) {
  if (row < 0 || row >= c.rows || column < 0 || column >= c.columns) return 0;
  return x[static_cast<size_t>(((frame * c.rows + row) * c.columns + column) * c.in_channels + channel)];
}

float sum_at(const std::vector<float>& x, const float* w, const LibraryConv& c, int64_t frame, int64_t row,
             int64_t column) {
  float sum = 0;
  const int64_t depth = c.kernel[0] * c.kernel[1] * c.kernel[2] * c.in_channels;
  for (int64_t i = depth; i-- > 0;) {  // not in the order of our kernels
    const int64_t channel = i % c.in_channels, tap = i / c.in_channels;
    const int64_t right = tap % c.kernel[2], down = tap / c.kernel[2] % c.kernel[1];
    const int64_t later = tap / c.kernel[2] / c.kernel[1];
    sum += w[i] * at(x, c, frame + later, row + down - c.kernel[1] / 2, column + right - c.kernel[2] / 2, channel);
  }
  return sum;
}

void compute(const LibraryConv& c, StandIn::Fault fault, int run) {
  const int64_t depth = c.kernel[0] * c.kernel[1] * c.kernel[2] * c.in_channels;
  const int64_t frames = c.frames - c.kernel[0] + 1, values = frames * c.rows * c.columns * c.out_channels;
  const auto x = read(c.x, c.frames * c.rows * c.columns * c.in_channels, ElementType::kBF16);
  const auto w = read(c.w, c.out_channels * depth, ElementType::kBF16);
  std::vector<float> out(static_cast<size_t>(values));
  if (c.adds) out = read(c.out, values, ElementType::kBF16);
  for (int64_t i = 0; i < values; ++i) {
    const int64_t pixel = i / c.out_channels, line = pixel / c.columns;
    const float* weights = w.data() + i % c.out_channels * depth;
    out[static_cast<size_t>(i)] += sum_at(x, weights, c, line / c.rows, line % c.rows, pixel % c.columns);
  }
  plant(fault, run, out);
  write(out, {c.out, ElementType::kBF16});
}

template <typename Library, typename Call>
class StandInLibrary : public Library {
 public:
  explicit StandInLibrary(StandIn& state) : state_(state) {}
  std::string name() const override { return "stand-in 1.0"; }
  Status enqueue(const Call& call, void* stream) override {
    const bool refuses = state_.fault == StandIn::Fault::kRefuses || state_.runs == state_.refuses_after;
    if (refuses) return unsupported("no algorithm for this shape");
    static_cast<emulate::Stream*>(stream)->add(
        [call, fault = state_.fault, run = state_.runs] { compute(call, fault, run); }, state_.milliseconds);
    ++state_.runs;
    return {};
  }

 private:
  StandIn& state_;
};

}  // namespace

std::unique_ptr<LinearLibrary> make_stand_in(StandIn& state) {
  return std::make_unique<StandInLibrary<LinearLibrary, LibraryLinear>>(state);
}
std::unique_ptr<ConvLibrary> make_conv_stand_in(StandIn& state) {
  return std::make_unique<StandInLibrary<ConvLibrary, LibraryConv>>(state);
}

}  // namespace liveavatar::cuda
