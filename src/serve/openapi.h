// The description of the HTTP interface, made from the tables that the server itself works by.
#pragma once

#include <string>

namespace liveavatar::serve {

// OpenAPI 3.1 as JSON. has_speech: whether this server speaks texts.
std::string openapi_json(bool has_speech = true);

}  // namespace liveavatar::serve
