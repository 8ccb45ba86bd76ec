// How an image is laid into the video's frame: scaled, then cropped about its centre.
#pragma once

#include <cstdint>

#include "media/image.h"

namespace liveavatar {

struct FittedSides {
  int64_t height = 0, width = 0;  // scaled
  int64_t top = 0, left = 0;      // where the frame begins in it; negative: bars, the image is too small
};

// kOriginal: short side to min(size.height, size.width); kCover: scaled until it covers. Odd surplus rounds half to
// even, odd bars put less in front.
FittedSides fitted_sides(int64_t height, int64_t width, WorkingSize size, Fit fit);

// rgb [height, width, 3] -> out f32 [3, size.height, size.width] in [-1, 1], resized in floating point (antialiased
// bilinear, not rounded in between); bars are 0. `scratch` grows to what it needs and may be used again.
void fit_float(const Image& image, WorkingSize size, Fit fit, std::vector<float>& scratch, float* out);
// Of fit_float's scratch.
size_t fit_float_bytes(int64_t height, int64_t width, WorkingSize size, Fit fit);

}  // namespace liveavatar
