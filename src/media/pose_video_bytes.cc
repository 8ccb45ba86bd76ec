// Apart from the code that decodes, so that programs which only plan link no decoder.
#include "media/pose_video.h"

namespace liveavatar {

size_t pose_video_bytes(int64_t height, int64_t width) {
  constexpr size_t kFixedBytes = size_t{2} << 20;
  constexpr size_t kDecodedFrames = 20,
                   kRgbImages = 2;  // 16 references and a few on their way; as stored and upright
  size_t pixels = static_cast<size_t>(height * width);
  return kFixedBytes + kDecodedFrames * pixels * 3 / 2 + kRgbImages * pixels * 3;
}

}  // namespace liveavatar
