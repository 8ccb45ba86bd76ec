// Checks of public fields that the type of a field does not make.
#pragma once

#include <string>

#include "core/status.h"

namespace liveavatar {

// An enum's value was made of a number that is none of its values. field: in backquotes.
template <typename Enum>
Status check_choice(const char* field, Enum value, Enum last) {
  const int number = static_cast<int>(value);
  if (number >= 0 && number <= static_cast<int>(last)) return {};
  return invalid_argument(std::string(field) + " " + std::to_string(number) + ": is none of its values; choose one");
}

// The system would read a path only to its first NUL.
inline Status check_path(const char* field, const std::string& path) {
  if (path.find('\0') == std::string::npos) return {};
  return invalid_argument(std::string(field) + ": holds a NUL byte, which no path can; leave it out");
}

}  // namespace liveavatar
