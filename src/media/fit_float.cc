// Antialiased bilinear resizing in floating point, as PyTorch does it to a float image.
#include <algorithm>
#include <cmath>

#include "media/fit.h"

namespace liveavatar {
namespace {

struct Taps {
  int64_t first = 0;
  std::vector<float> weights;
};

// For output positions [begin, end) of `in` values scaled to `out`.
std::vector<Taps> float_taps(int64_t in, int64_t out, int64_t begin, int64_t end) {
  double scale = double(in) / double(out), filter = std::max(scale, 1.0);
  std::vector<Taps> all;
  for (int64_t i = begin; i < end; ++i) {
    double centre = (double(i) + 0.5) * scale, sum = 0;
    int64_t first = std::max<int64_t>(0, static_cast<int64_t>(centre - filter + 0.5));
    int64_t last = std::min(in, static_cast<int64_t>(centre + filter + 0.5));
    std::vector<double> weights;
    for (int64_t j = first; j < last; ++j) {
      weights.push_back(std::max(0.0, 1 - std::fabs((double(j) - centre + 0.5) / filter)));
      sum += weights.back();
    }
    Taps taps{first, {}};
    for (double w : weights) taps.weights.push_back(static_cast<float>(w / sum));
    all.push_back(std::move(taps));
  }
  return all;
}

// The part of the frame that the image covers, along one side.
struct Span {
  int64_t begin = 0, end = 0;  // in the frame
  Span(int64_t frame, int64_t scaled, int64_t offset)
      : begin(std::max<int64_t>(0, -offset)), end(std::min(frame, scaled - offset)) {}
  int64_t count() const { return end - begin; }
};

// [image.height, columns, 3] in [-1, 1]
void resize_rows(const Image& image, const std::vector<Taps>& taps, float* out) {
  for (int64_t y = 0; y < image.height; ++y) {
    const uint8_t* row = image.rgb.data() + y * image.width * 3;
    for (const Taps& tap : taps) {
      for (int64_t c = 0; c < 3; ++c) {
        float sum = 0;
        for (size_t j = 0; j < tap.weights.size(); ++j)
          sum += tap.weights[j] * (static_cast<float>(row[(tap.first + int64_t(j)) * 3 + c]) / 255.0f * 2.0f - 1.0f);
        *out++ = sum;
      }
    }
  }
}

}  // namespace

size_t fit_float_bytes(int64_t height, int64_t width, WorkingSize size, Fit fit) {
  FittedSides sides = fitted_sides(height, width, size, fit);
  Span columns(size.width, sides.width, sides.left);
  return static_cast<size_t>(height * columns.count() * 3) * sizeof(float);
}

void fit_float(const Image& image, WorkingSize size, Fit fit, std::vector<float>& scratch, float* out) {
  FittedSides sides = fitted_sides(image.height, image.width, size, fit);
  Span rows(size.height, sides.height, sides.top), columns(size.width, sides.width, sides.left);
  scratch.resize(fit_float_bytes(image.height, image.width, size, fit) / sizeof(float));
  resize_rows(image, float_taps(image.width, sides.width, columns.begin + sides.left, columns.end + sides.left),
              scratch.data());
  std::vector<Taps> taps = float_taps(image.height, sides.height, rows.begin + sides.top, rows.end + sides.top);
  std::fill_n(out, 3 * size.height * size.width, 0.0f);
  for (int64_t y = 0; y < rows.count(); ++y) {
    const Taps& tap = taps[static_cast<size_t>(y)];
    for (int64_t i = 0; i < columns.count() * 3; ++i) {
      float sum = 0;
      for (size_t j = 0; j < tap.weights.size(); ++j)
        sum += tap.weights[j] * scratch[static_cast<size_t>((tap.first + int64_t(j)) * columns.count() * 3 + i)];
      out[(i % 3 * size.height + y + rows.begin) * size.width + i / 3 + columns.begin] = sum;
    }
  }
}

}  // namespace liveavatar
