// Antialiased bilinear resizing in exact integers, as PIL does it, and the crop after it.
#include <algorithm>
#include <cmath>

#include "media/fit.h"

namespace liveavatar {
namespace {

// For one output position: which inputs, with weights of 2^22 in sum.
struct Taps {
  int64_t first = 0;
  std::vector<int64_t> weights;
};

std::vector<Taps> bilinear_taps(int64_t in, int64_t out) {
  double scale = double(in) / double(out), filter = std::max(scale, 1.0);
  std::vector<Taps> all;
  for (int64_t i = 0; i < out; ++i) {
    double centre = (double(i) + 0.5) * scale;
    int64_t first = std::max<int64_t>(0, static_cast<int64_t>(centre - filter + 0.5));
    int64_t last = std::min(in, static_cast<int64_t>(centre + filter + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int64_t j = first; j < last; ++j) {
      weights.push_back(std::max(0.0, 1 - std::fabs((double(j) - centre + 0.5) / filter)));
      sum += weights.back();
    }
    Taps taps{first, {}};
    for (double w : weights) taps.weights.push_back(static_cast<int64_t>(0.5 + w / sum * 4194304.0));
    all.push_back(std::move(taps));
  }
  return all;
}

uint8_t blend(const Taps& taps, const uint8_t* pixel, int64_t stride) {
  int64_t sum = 1 << 21;
  for (size_t j = 0; j < taps.weights.size(); ++j) sum += taps.weights[j] * pixel[(taps.first + int64_t(j)) * stride];
  return static_cast<uint8_t>(std::clamp<int64_t>(sum >> 22, 0, 255));
}

Image widened(const Image& image, int64_t width) {
  Image wide{image.height, width, std::vector<uint8_t>(static_cast<size_t>(image.height * width * 3))};
  std::vector<Taps> taps = bilinear_taps(image.width, width);
  for (int64_t y = 0; y < wide.height; ++y) {
    for (int64_t i = 0; i < width * 3; ++i) {
      wide.rgb[size_t(y * width * 3 + i)] =
          blend(taps[size_t(i / 3)], image.rgb.data() + y * image.width * 3 + i % 3, 3);
    }
  }
  return wide;
}

// Horizontal pass, then vertical, rounded to 8 bits in between; a pass that changes nothing is skipped.
Image resize(const Image& image, int64_t height, int64_t width) {
  Image resized;
  if (width != image.width) resized = widened(image, width);
  const Image& wide = width != image.width ? resized : image;
  if (height == image.height) return wide;
  Image out{height, width, std::vector<uint8_t>(static_cast<size_t>(height * width * 3))};
  std::vector<Taps> taps = bilinear_taps(image.height, height);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t i = 0; i < width * 3; ++i)
      out.rgb[size_t(y * width * 3 + i)] = blend(taps[size_t(y)], wide.rgb.data() + i, width * 3);
  }
  return out;
}

// Black where the image is too small.
Image crop(const Image& image, WorkingSize size, int64_t top, int64_t left) {
  Image out;
  out.height = size.height;
  out.width = size.width;
  out.rgb.assign(static_cast<size_t>(size.height * size.width * 3), 0);
  for (int64_t y = std::max<int64_t>(0, -top); y < size.height && y + top < image.height; ++y) {
    for (int64_t x = std::max<int64_t>(0, -left); x < size.width && x + left < image.width; ++x) {
      std::copy_n(&image.rgb[size_t(((y + top) * image.width + x + left) * 3)], 3,
                  &out.rgb[size_t((y * size.width + x) * 3)]);
    }
  }
  return out;
}

}  // namespace

FittedSides fitted_sides(int64_t height, int64_t width, WorkingSize size, Fit fit) {
  if (fit == Fit::kOriginal) {
    int64_t target = std::min(size.height, size.width);
    bool tall = height >= width;
    int64_t shorter = tall ? width : height, longer = tall ? height : width;
    if (shorter != target) {
      int64_t long_side = target * longer / shorter;
      height = tall ? long_side : target;
      width = tall ? target : long_side;
    }
  } else {
    double scale = std::max(double(size.height) / double(height), double(size.width) / double(width));
    height = std::max(size.height, static_cast<int64_t>(std::lround(double(height) * scale)));
    width = std::max(size.width, static_cast<int64_t>(std::lround(double(width) * scale)));
  }
  auto offset = [](int64_t have, int64_t want) {
    return have >= want ? static_cast<int64_t>(std::nearbyint(double(have - want) / 2)) : -((want - have) / 2);
  };
  return {height, width, offset(height, size.height), offset(width, size.width)};
}

Image fit_image(const Image& image, WorkingSize size, Fit fit) {
  FittedSides sides = fitted_sides(image.height, image.width, size, fit);
  return crop(resize(image, sides.height, sides.width), size, sides.top, sides.left);
}

size_t fit_bytes(const ImageInfo& picture, WorkingSize size, Fit fit) {
  int64_t height = (picture.height >> picture.reduction) + 1, width = (picture.width >> picture.reduction) + 1;
  FittedSides scaled = fitted_sides(height, width, size, fit);
  constexpr int64_t kTapBytes = 16, kTapsBytes = 64;  // weights of two inputs an input; a vector an output
  int64_t taps = kTapBytes * (height + width) + kTapsBytes * (scaled.height + scaled.width);
  int64_t area = scaled.height * scaled.width;
  int64_t pixels = std::max(height * scaled.width + area, area + size.height * size.width);
  return static_cast<size_t>(pixels * 3 + taps);
}

}  // namespace liveavatar
