// Convolutions over frames that are computed alike: of one shape, with operands in bf16 and the same epilogue.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "backend/cuda/kernels.h"
#include "backend/types.h"

namespace liveavatar::cuda {

struct ConvClass {
  int64_t frames = 0, rows = 0, columns = 0;  // of out
  int64_t in_channels = 0, out_channels = 0;
  std::array<int64_t, 3> kernel{};  // frames, rows, columns
  bool upsample2x = false, residual = false;
  bool operator==(const ConvClass&) const = default;

  int64_t past_frames() const { return kernel[0] - 1; }  // of history
  // Frames of out that are made at once: first those that see history, which is copied in front of their input.
  int64_t part_frames() const {
    if (upsample2x) return 1;
    return past_frames() > 0 && past_frames() < frames ? past_frames() : frames;
  }
};

// Empty: of a kind that no library is asked for. It has one for the causal convolutions of residual blocks and those
// that double rows and columns: of stride 1, with a bias, and with a residual that out holds.
std::optional<ConvClass> library_class(const VideoConvSize& size);
std::optional<ConvClass> library_class(const ConvCall& call);

// "conv 4 x 384 x 704, 96 -> 96, 3 x 3 x 3, residual": frames, rows and columns of out
std::string describe(const ConvClass& c);

// Whether the own kernel takes larger blocks.
bool has_large_blocks(const ConvCall& c);

}  // namespace liveavatar::cuda
