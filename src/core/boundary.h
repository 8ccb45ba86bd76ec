// The boundary for exceptions. Most errors are a Status. Errors that cannot be returned (no memory inside an op, a
// thread that does not start, exceptions of a library) are thrown, and become a Status at the engine's boundary.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "core/status.h"
#include "core/text.h"

namespace liveavatar {

class Failure : public std::exception {
 public:
  explicit Failure(Status status) : status_(std::move(status)) {}
  const Status& status() const { return status_; }
  const char* what() const noexcept override { return status_.message().c_str(); }

 private:
  Status status_;
};

// The exception that is being handled, as a Status. The message begins with `where`.
inline Status status_of_exception(const std::string& where) {
  try {
    throw;
  } catch (const Failure& failure) {
    return failure.status();
  } catch (const std::bad_alloc&) {
    return out_of_memory(where +
                         ": the system has no memory left; close other programs or raise the limit (ulimit -v)");
  } catch (const std::system_error& e) {
    if (e.code() != std::errc::resource_unavailable_try_again) return io_error(where + ": " + e.what());
    return out_of_memory(where + ": the system gives no more threads (" + e.what() +
                         "); raise the limit of processes or memory (ulimit -u, -v)");
  } catch (const std::exception& e) {
    return io_error(where + ": " + e.what());
  } catch (...) {
    return io_error(where + ": an unknown exception");
  }
}

inline const Status& status_of(const Status& result) { return result; }
template <typename T>
const Status& status_of(const Expected<T>& result) {
  return result.status();
}

// body() returns Status or Expected. An exception that it throws is returned as one. A message of either is one line,
// whatever texts of users are in it.
template <typename Body>
auto contained(const std::string& where, Body&& body) -> decltype(body()) {
  try {
    auto result = body();
    if (result.ok()) return result;
    return Status(status_of(result).code(), one_line(status_of(result).message()));
  } catch (...) {
    const Status status = status_of_exception(where);
    return Status(status.code(), one_line(status.message()));
  }
}

}  // namespace liveavatar
