// Convolution, and the common parts of its two implementations.
#pragma once

#include "backend/cpu/context.h"
#include "backend/cpu/product.h"

namespace liveavatar::cpu {

constexpr int64_t kStageBytes = 256 << 10;        // target size of staged input lines: half of a usual L2 cache
constexpr int64_t kMatrixStageBytes = 768 << 10;  // with a matrix unit, whose CPUs have 2 MiB of L2

// Reserves scratch for all types of such a convolution.
Status reserve_conv(CpuContext& context, const ConvSize& size);
void run_conv(CpuContext& context, const Product& p, const ConvWeight& w, const ConvGeometry& g);

// The segments of an output line and the input that is staged for a segment: follows from the convolution's size and
// the kernels.
struct Staging {
  std::array<int64_t, 3> kernel;
  bool unit = false;        // on the matrix unit
  bool is_bf16 = false;     // staged as bf16
  int64_t k = 0;            // channels of a staged pixel: even in bf16
  int64_t segment = 0;      // output pixels of a segment, at most
  int64_t at_once = 1;      // output lines that share a panel while it is in L2
  int64_t line_pixels = 0;  // staged for a segment

  Staging(const ConvSize& size, bool on_unit, bool in_bf16);
  int64_t lines() const { return kernel[0] * kernel[1]; }
  int64_t taps() const { return lines() * kernel[2]; }
  size_t pixel_bytes() const { return static_cast<size_t>(k) * (is_bf16 ? sizeof(bf16) : sizeof(float)); }
  size_t line_bytes() const { return static_cast<size_t>(line_pixels) * pixel_bytes(); }
  int64_t stage_bytes() const { return lines() * static_cast<int64_t>(line_bytes()); }
  ScratchSizes scratch(int64_t columns) const;
};

// One call: the parts that are the same for every segment.
struct ConvCall : Staging {
  Product product;
  const ConvGeometry& geometry;
  ConvSize size;

  ConvCall(const Staging& staging, const Product& p, const ConvGeometry& g, const ConvSize& s)
      : Staging(staging), product(p), geometry(g), size(s) {}
  // The first channel of pixel 0 of an input row of x, or of the history in front of it. Null: a line of zeros.
  const char* source_line(int64_t frame, int64_t row) const;
};

// Rows of pixels times micro-panels, with the micro-kernel or on a matrix unit.
class Convolution {
 public:
  Convolution(CpuContext& context, const ConvCall& call) : context_(context), kernels_(context.kernels()), c_(call) {}
  void run() const;

 private:
  struct Segment {  // output pixels [first, first + count) of some output lines
    int64_t line = 0, lines = 1, first = 0, count = 0;
  };
  void copy_channels(const char* from, int64_t count, std::byte* to) const;
  void stage_line(const char* line, int64_t first, int64_t group, std::byte* target) const;
  void stage_segment(int64_t line, int64_t first, int64_t group, std::byte* stage) const;
  void run_segment(const Segment& segment, ThreadScratch& scratch) const;
  void run_panel(const Segment& segment, int64_t panel, ThreadScratch& scratch) const;
  void run_tile(const Tile& tile, int64_t at, ThreadScratch& scratch) const;
  void run_matrix(const Tile& tile, int64_t staged, ThreadScratch& scratch) const;

  CpuContext& context_;
  const Kernels& kernels_;
  const ConvCall& c_;
};

}  // namespace liveavatar::cpu
