// One convolution at work: what conv.cc and narrow_conv.cc share.
#pragma once

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/product.h"

namespace liveavatar::cpu {

constexpr int64_t kStageBytes = 256 << 10;        // of staged input lines, aimed at: half of a usual L2 cache,
constexpr int64_t kMatrixStageBytes = 512 << 10;  // a quarter of one beside a matrix unit

// One call; all that is the same for every stretch.
struct CpuBackend::Convolution {
  Product product;
  const ConvGeometry& geometry;
  std::array<int64_t, 3> kernel;
  bool unit = false;        // on the matrix unit
  bool half = false;        // staged as bf16
  int64_t k = 0;            // channels of a staged pixel: even in bf16
  int64_t stretch = 0;      // output pixels at most
  int64_t line_pixels = 0;  // staged for them

  int64_t lines() const { return kernel[0] * kernel[1]; }
  size_t pixel_bytes() const { return static_cast<size_t>(k) * (half ? sizeof(bf16) : sizeof(float)); }
  size_t stage_bytes() const { return static_cast<size_t>(lines() * line_pixels) * pixel_bytes(); }
  void set_stretch(int64_t pixels) {
    stretch = pixels;
    line_pixels = (pixels - 1) * geometry.stride[2] + kernel[2];
  }
  // First channel of input pixel (line, 0): line counts rows of x, or of the history that lies in front of it. Null:
  // a line of zeros.
  const char* source_line(int64_t frame, int64_t row) const;
};

}  // namespace liveavatar::cpu
