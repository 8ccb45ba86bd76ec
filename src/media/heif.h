// HEIC and AVIF through libheif: FFmpeg reads the first only in part and neither's orientation.
#pragma once

#include <string>

#include "core/status.h"
#include "media/file_io.h"
#include "media/image.h"

namespace liveavatar {

// `head`: the file's first bytes.
bool is_heif(const std::string& head);

struct HeifSize {
  Sides stored, upright;  // upright: turned and cropped as the file says
  double sample_bytes = 0;
};
// Errors name the kind (HEIC, AVIF) and what to do.
Expected<HeifSize> read_heif_size(const SharedFile& file);
// The primary image, by the matrix and range that it is tagged with. upright: turned and mirrored as it says.
Expected<Image> read_heif(const SharedFile& file, bool upright);

}  // namespace liveavatar
