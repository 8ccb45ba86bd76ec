// One convolution at work: what conv.cc and narrow_conv.cc share.
#pragma once

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/product.h"

namespace liveavatar::cpu {

constexpr int64_t kStageBytes = 256 << 10;        // of staged input lines, aimed at: half of a usual L2 cache,
constexpr int64_t kMatrixStageBytes = 768 << 10;  // beside a matrix unit, whose CPUs have 2 MiB

// How an output line is cut and what is staged for a stretch of it: decided by the convolution's size and the kernels.
struct Staging {
  std::array<int64_t, 3> kernel;
  bool unit = false;        // on the matrix unit
  bool half = false;        // staged as bf16
  int64_t k = 0;            // channels of a staged pixel: even in bf16
  int64_t stretch = 0;      // output pixels at most
  int64_t at_once = 1;      // output lines that share a panel while it is in L2
  int64_t line_pixels = 0;  // staged for them

  Staging(const ConvSize& size, bool unit, bool half);
  int64_t lines() const { return kernel[0] * kernel[1]; }
  int64_t taps() const { return lines() * kernel[2]; }
  size_t pixel_bytes() const { return static_cast<size_t>(k) * (half ? sizeof(bf16) : sizeof(float)); }
  int64_t stage_bytes() const { return lines() * line_pixels * static_cast<int64_t>(pixel_bytes()); }
  ScratchSizes scratch(int64_t columns) const;
};

// The same for few output channels: narrow_conv.cc.
struct NarrowStaging {
  int64_t lanes = 0;
  int64_t n = 0;      // output channels
  int channels = 0;   // as NarrowArgs wants them
  int64_t items = 0;  // of a pixel
  int64_t lines = 0, kernel_columns = 0;
  int64_t tile_pixels = 0, stretch = 0, pitch = 0;  // of a tile; of a line at most; between a staged line's items

  NarrowStaging(const Staging& staging, const ConvSize& size, int64_t lanes);
  int64_t line_items() const { return items * pitch; }
  int64_t weight_count() const { return lines * kernel_columns * items * channels; }
  ScratchSizes scratch() const;
};

// One call; all that is the same for every stretch.
struct CpuBackend::Convolution : Staging {
  Product product;
  const ConvGeometry& geometry;
  ConvSize size;

  Convolution(const Staging& staging, const Product& p, const ConvGeometry& g, const ConvSize& s)
      : Staging(staging), product(p), geometry(g), size(s) {}
  // First channel of input pixel (line, 0): line counts rows of x, or of the history that lies in front of it. Null:
  // a line of zeros.
  const char* source_line(int64_t frame, int64_t row) const;
};

}  // namespace liveavatar::cpu
