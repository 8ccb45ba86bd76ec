// Bodies of multipart/form-data (RFC 7578).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace liveavatar::serve {

// Views into the body.
struct FormPart {
  std::string name;
  bool is_file = false;  // it has a file name, which nobody looks at
  std::string_view bytes;
};

// content_type: of the request, with its boundary. kInvalidArgument: broken, or more than 64 parts.
Expected<std::vector<FormPart>> parse_form(std::string_view content_type, std::string_view body);

}  // namespace liveavatar::serve
