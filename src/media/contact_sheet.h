// A video as one image: frames spread over its length in a grid.
#pragma once

#include <string>

#include "core/status.h"

namespace liveavatar {

// Reads `video`, writes a PNG of `columns` x `rows` frames at even distances, row by row, a thin line between them.
Status write_contact_sheet(const std::string& video, const std::string& png, int columns, int rows);

}  // namespace liveavatar
