// Cases of linear layers and convolutions, for the kernels in f32 and those on tensor cores: operands on the device,
// and what plain loops in double give.
#pragma once

#include <array>

#include "emulated_device.h"
#include "packed_weights.h"
#include "plain_activation.h"

namespace liveavatar::cuda::emulated {

struct LinearCase {
  int64_t m, n, k;
  ElementType x = kF32, w = kF32, out = kF32, residual = kF32;
  int64_t groups = 0;     // of the gate; 0: no gate
  bool in_place = false;  // the residual is out
  Activation activation = Activation::kSilu;
  bool large = false;

  int64_t gate_rows() const { return std::max<int64_t>(groups, 1); }
  friend void PrintTo(const LinearCase& c, std::ostream* out) {
    *out << c.m << " x " << c.n << " x " << c.k << ", types " << int(c.x) << int(c.w) << int(c.out) << int(c.residual)
         << (c.large ? ", large blocks" : "");
  }
};

class LinearOperands {
 public:
  LinearOperands(const LinearCase& c, std::mt19937& random)
      : c_(c),
        w_(normal_values(random, c.n * c.k, 1 / std::sqrt(float(c.k))), c.n, c.k, c.w),
        x_(normal_values(random, c.m * c.k), c.x),
        residual_(normal_values(random, c.m * c.n), c.residual),
        bias_(normal_values(random, c.n)),
        gate_(normal_values(random, c.gate_rows() * c.n)) {}

  std::vector<double> expected() const {
    const auto x = x_.host(), residual = residual_.host(), bias = bias_.host(), gate = gate_.host();
    std::vector<double> out;
    for (int64_t i = 0; i < c_.m * c_.n; ++i) {
      const int64_t row = i / c_.n, column = i % c_.n;
      double sum = bias[size_t(column)];
      for (int64_t k = 0; k < c_.k; ++k)
        sum += double(x[size_t(row * c_.k + k)]) * w_.values[size_t(column * c_.k + k)];
      sum = activated(sum, c_.activation);
      if (c_.groups > 0) sum *= gate[size_t(row / (c_.m / c_.groups) * c_.n + column)];
      out.push_back(sum + residual[size_t(i)]);
    }
    return out;
  }
  std::vector<float> out_before() const {
    return c_.in_place ? residual_.host() : std::vector<float>(size_t(c_.m * c_.n));
  }
  LinearCall call(const DeviceTensor& out) const {
    const EpilogueCall epilogue{bias_.data(), c_.groups > 0 ? gate_.data() : nullptr, c_.gate_rows(),
                                c_.in_place ? out : residual_, c_.activation};
    return {x_, w_.matrix(), c_.m, epilogue, out, c_.large};
  }

 private:
  LinearCase c_;
  PackedWeights w_;
  DeviceTensor x_, residual_;
  DeviceVector<float> bias_, gate_;
};

struct ConvCase {
  std::array<int64_t, 4> x;  // frames, rows, columns, channels
  int64_t out_channels;
  std::array<int64_t, 3> kernel, stride{1, 1, 1};
  std::array<int64_t, 4> pad{};  // top, bottom, left, right
  int64_t zero_frames = 0, history = 0, groups = 1;
  bool upsample = false, residual = false;
  ElementType type = kF32, w = kF32, out = kF32;
  bool large = false;

  friend void PrintTo(const ConvCase& c, std::ostream* out) {
    *out << c.x[0] << " x " << c.x[1] << " x " << c.x[2] << " x " << c.x[3] << " -> " << c.out_channels << ", types "
         << int(c.type) << int(c.w) << int(c.out) << (c.large ? ", large blocks" : "");
  }

  int64_t up() const { return upsample ? 2 : 1; }
  int64_t group_channels() const { return x[3] / groups; }
  int64_t k() const { return kernel[0] * kernel[1] * kernel[2] * group_channels(); }
  int64_t line() const { return x[1] * x[2] * x[3]; }  // elements of a frame
  std::array<int64_t, 3> out_size() const {
    return {(zero_frames + history + x[0] - kernel[0]) / stride[0] + 1,
            (x[1] * up() + pad[0] + pad[1] - kernel[1]) / stride[1] + 1,
            (x[2] * up() + pad[2] + pad[3] - kernel[2]) / stride[2] + 1};
  }
  int64_t out_pixels() const { return out_size()[0] * out_size()[1] * out_size()[2]; }
};

class ConvOperands {
 public:
  ConvOperands(const ConvCase& c, std::mt19937& random)
      : c_(c),
        w_(normal_values(random, c.out_channels * c.k(), 1 / std::sqrt(float(c.k()))), c.out_channels, c.k(), c.w),
        history_(normal_values(random, c.history * c.line()), c.type),
        x_(normal_values(random, c.x[0] * c.line()), c.type),
        residual_(normal_values(random, c.out_pixels() * c.out_channels), c.type),
        bias_(normal_values(random, c.out_channels)) {}

  std::vector<double> expected() const {
    std::vector<float> frames = history_.host();
    const auto x = x_.host(), residual = residual_.host(), bias = bias_.host();
    frames.insert(frames.end(), x.begin(), x.end());
    std::vector<double> out;
    for (int64_t i = 0; i < c_.out_pixels() * c_.out_channels; ++i) {
      const int64_t channel = i % c_.out_channels;
      const double sum = plain_sum(frames, i / c_.out_channels, channel) + bias[size_t(channel)];
      out.push_back(activated(sum, Activation::kSilu) + (c_.residual ? residual[size_t(i)] : 0));
    }
    return out;
  }
  ConvCall call(const DeviceTensor& out) const {
    const auto [out_frames, out_rows, out_columns] = c_.out_size();
    return {.x = x_,
            .history = c_.history > 0 ? history_ : Input{},
            .history_frames = c_.history,
            .zero_frames = c_.zero_frames,
            .frames = c_.x[0],
            .rows = c_.x[1],
            .columns = c_.x[2],
            .channels = c_.x[3],
            .kernel = {c_.kernel[0], c_.kernel[1], c_.kernel[2]},
            .stride = {c_.stride[0], c_.stride[1], c_.stride[2]},
            .pad_top = c_.pad[0],
            .pad_left = c_.pad[2],
            .upsample2x = c_.upsample,
            .out_frames = out_frames,
            .out_rows = out_rows,
            .out_columns = out_columns,
            .groups = c_.groups,
            .w = w_.matrix(),
            .epilogue = {bias_.data(), nullptr, 1, c_.residual ? residual_ : Input{}, Activation::kSilu},
            .out = out,
            .large = c_.large};
  }

 private:
  // frames: history and x, one behind the other. The sum for one value of out.
  double plain_sum(const std::vector<float>& frames, int64_t pixel, int64_t channel) const {
    const auto [out_frames, out_rows, out_columns] = c_.out_size();
    const int64_t group = channel / (c_.out_channels / c_.groups), channels = c_.group_channels();
    double sum = 0;
    for (int64_t tap = 0; tap < c_.kernel[0] * c_.kernel[1] * c_.kernel[2]; ++tap) {
      const int64_t frame =
          pixel / out_columns / out_rows * c_.stride[0] + tap / c_.kernel[2] / c_.kernel[1] - c_.zero_frames;
      const int64_t y = pixel / out_columns % out_rows * c_.stride[1] + tap / c_.kernel[2] % c_.kernel[1] - c_.pad[0];
      const int64_t x = pixel % out_columns * c_.stride[2] + tap % c_.kernel[2] - c_.pad[2];
      if (frame < 0 || y < 0 || x < 0 || y >= c_.x[1] * c_.up() || x >= c_.x[2] * c_.up()) continue;
      const int64_t at = frame * c_.line() + (y / c_.up() * c_.x[2] + x / c_.up()) * c_.x[3] + group * channels;
      for (int64_t i = 0; i < channels; ++i) {
        sum += double(frames[size_t(at + i)]) * w_.values[size_t(channel * c_.k() + tap * channels + i)];
      }
    }
    return sum;
  }

  ConvCase c_;
  PackedWeights w_;
  DeviceTensor history_, x_, residual_;
  DeviceVector<float> bias_;
};

}  // namespace liveavatar::cuda::emulated
