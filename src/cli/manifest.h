// Files against the lines of `sha256sum`.
#pragma once

#include <functional>
#include <string>

#include "core/status.h"

namespace liveavatar::cli {

struct ManifestReport {
  int files = 0, bad = 0;
};
// Paths are relative to the manifest's folder; say gets a line for each file that is wrong, begin each file's name and
// bytes. kInvalidArgument: a line is none of sha256sum's, or leads out of the folder; nothing is read then.
Expected<ManifestReport> verify_manifest(const std::string& manifest, const std::function<void(std::string)>& say,
                                         const std::function<void(const std::string&, double)>& begin);

}  // namespace liveavatar::cli
