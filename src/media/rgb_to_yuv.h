// Frames of the engine as an encoder takes them.
#pragma once

#include <cstdint>
#include <vector>

#include "core/status.h"
#include "media/ffmpeg.h"

namespace liveavatar {

// rgb to YUV 4:2:0 (BT.709, limited range) of an opened encoder's size. One thread at a time.
class RgbToYuv {
 public:
  static Expected<RgbToYuv> open(const AVCodecContext& encoder);
  // rgb [height, width, 3] -> a frame that is valid until the next call; its time is the caller's to set.
  Expected<AVFrame*> convert(const uint8_t* rgb);

 private:
  Owned<AVFrame> frame_;
  Owned<SwsContext> scaler_;
  std::vector<uint8_t> staging_;
};

}  // namespace liveavatar
