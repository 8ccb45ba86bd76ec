// Convolution with a small number of output channels, as at the end of a decoder. Rows of pixels times a panel would
// leave most lanes empty, or too few accumulators to hide the latency of a multiply-add. So lanes are pixels, and a
// weight is broadcast to all of them. Input lines are staged item by item (an item: one channel in f32, or a pair in
// bf16), once for all output lines of a job. The order of sums is the same as in the micro-kernel.
#pragma once

#include "backend/cpu/conv.h"

namespace liveavatar::cpu {

struct SmallOutputStaging {
  int64_t lanes = 0;
  int64_t n = 0;      // output channels
  int channels = 0;   // padded as for SmallOutputArgs
  int64_t items = 0;  // of a pixel
  int64_t lines = 0, kernel_columns = 0;
  int64_t tile_pixels = 0, segment = 0,
          pitch = 0;  // pixels of a tile; of a segment at most; between items of a staged line

  SmallOutputStaging(const Staging& staging, const ConvSize& size, int64_t lanes_of_a_vector);
  int64_t line_items() const { return items * pitch; }
  int64_t weight_count() const { return lines * kernel_columns * items * channels; }
  ScratchSizes scratch() const;
};

class SmallOutputConvolution {
 public:
  // Whether a convolution of this size may use this class, and whether this call does.
  static bool fits(const Kernels& kernels, const ConvSize& size);
  static bool fits(const Kernels& kernels, const ConvCall& call);

  SmallOutputConvolution(CpuContext& context, const ConvCall& call);
  void run();

 private:
  // Output lines [line, line + rows) of one frame, pixels from `column`.
  struct Area {
    int64_t line = 0, rows = 0, column = 0;
  };
  void set_weights();
  void set_bias();
  void run_area(const Area& area, ThreadScratch& scratch) const;
  void stage_pixels(const char* line, int64_t first, int64_t slot, ThreadScratch& scratch) const;
  void point_to_pixels(const char* line, int64_t first, std::byte* copies, const void** pointers) const;
  void run_line(int64_t line, int64_t column, ThreadScratch& scratch) const;
  void store(int64_t element, const SmallOutputArgs& tile) const;

  CpuContext& context_;
  const Kernels& kernels_;
  const ConvCall& c_;
  SmallOutputStaging s_;
  bool widen_;  // pixels are bf16 and staged as f32
  const float* weights_ = nullptr;
  const float* bias_ = nullptr;  // of a tile's pixels
};

}  // namespace liveavatar::cpu
