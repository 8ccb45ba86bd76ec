// Animated WebP, which FFmpeg does not decode: its first frame through libwebp.
#pragma once

#include "core/status.h"
#include "media/file_io.h"
#include "media/image.h"

namespace liveavatar {

// The whole canvas as it is first shown.
Expected<Image> read_animated_webp(const ReadFile& file);

}  // namespace liveavatar
