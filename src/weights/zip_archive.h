// The directory of a zip archive whose entries are stored, not compressed, as PyTorch writes them. Zip64 is read.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "weights/file.h"

namespace liveavatar {

struct ZipEntry {
  uint64_t offset = 0, bytes = 0;  // of the data, inside the file
};

// Entries by name. Errors name the file: not an archive, truncated, a compressed entry, an entry outside the file.
Expected<std::map<std::string, ZipEntry>> read_zip_directory(const File& file);

}  // namespace liveavatar
