#pragma once

#include <string>

namespace liveavatar {

// This machine's, for messages.
std::string host_name();

}  // namespace liveavatar
