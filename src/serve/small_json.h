// JSON of clients, who may send megabytes of it but need few values.
#pragma once

#include "core/json.h"

namespace liveavatar::serve {

constexpr size_t kMostJsonValues = 4096;

// As parse_json(), but kInvalidArgument, also where it has more values than that: a value of two bytes takes fifty in
// memory.
Expected<nlohmann::json> parse_small_json(const std::string& text, const std::string& where);

// An error of core's JSON, whose texts are of files, as one of a client: kInvalidArgument, without advice.
Status client_error(const Status& status);

}  // namespace liveavatar::serve
