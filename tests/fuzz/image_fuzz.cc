// Portraits and masks in any format that FFmpeg, libheif and libwebp read.
#include "in_memory.h"
#include "media/ffmpeg_log.h"
#include "media/image_file.h"
#include "media/mask_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace liveavatar;
  static const bool quiet = (silence_ffmpeg_log(), true);
  static_cast<void>(quiet);
  constexpr int64_t kMostPixels = 1 << 20;  // a few bytes may say that they are gigabytes
  fuzz::MemoryFile file(data, bytes, "portrait.png");
  const auto size = mask_size(file.path());
  static_cast<void>(read_mask(file.path(), kMostPixels).ok());
  auto image = ImageFile::open(file.path());
  if (!image.ok() || !size.ok() || size->height * size->width > kMostPixels) return 0;
  for (const bool upright : {true, false}) {
    static_cast<void>(image->probe(upright, kMostPixels).ok());
    static_cast<void>(image->read(upright, kMostPixels).ok());
  }
  return 0;
}
