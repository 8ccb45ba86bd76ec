// Animated WebP, which FFmpeg does not decode: its first frame through libwebp.
#pragma once

#include <string>

#include "core/status.h"
#include "media/image.h"

namespace liveavatar {

// The whole canvas as it is first shown.
Expected<Image> read_animated_webp(const std::string& path);

}  // namespace liveavatar
