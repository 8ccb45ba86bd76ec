// A video's way out that is no file: `--output rtmp://...`, `srt://...` and `-`.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "core/output_files.h"

namespace liveavatar {
class StreamOutput;
}

namespace liveavatar::cli {

// For people: an address without its secrets, "standard output", or the path.
std::string output_name(const std::string& output);

// kInvalidArgument where it is an address that cannot be; of a file nothing is checked.
Status check_stream(const NamedPath& video);

// Connects to the server, or takes standard output: what else the program prints there goes to standard error from then
// on. Null: it is a file.
Expected<std::unique_ptr<StreamOutput>> open_stream(const NamedPath& video, bool quiet, const std::stop_token& stop);

}  // namespace liveavatar::cli
