// What the files of the C API share: the engine behind its handle, and how a call returns.
#pragma once

#include <cstring>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "core/boundary.h"
#include "liveavatar/c.h"
#include "liveavatar/liveavatar.h"

struct la_engine {
  std::unique_ptr<liveavatar::Engine> engine;
  std::mutex mutex;
  std::vector<std::stop_source> running;  // of each la_generate, one that will be refused too; behind the mutex
};
namespace liveavatar {

// body() returns Status. Whatever it does, a code comes back, and a line if there is memory for one.
template <typename Body>
la_code call(const char* name, char** message, Body&& body) noexcept {
  if (message != nullptr) *message = nullptr;
  try {
    Status status = contained(name, body);
    if (message != nullptr && !status.ok()) *message = strdup(status.message().c_str());
    return static_cast<la_code>(status.code());
  } catch (...) {  // no memory, even for the line
    return LA_OUT_OF_MEMORY;
  }
}

inline Status not_null(const void* pointer, const char* what) {
  if (pointer != nullptr) return {};
  return invalid_argument(std::string(what) + " is NULL");
}

template <typename Object>
Object* make() noexcept {
  try {
    return new Object;
  } catch (...) {
    return nullptr;
  }
}

}  // namespace liveavatar
