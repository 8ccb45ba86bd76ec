// Errors that a user can cause travel as values: Status, or Expected<T> where there is a result.
// A message says what went wrong, where, and what to do, in one line. Bugs assert, they never travel.
// Values like std::string: a thread may read one that no other thread writes.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

namespace liveavatar {

enum class ErrorCode {
  kOk = 0,
  kInvalidArgument,  // a flag or parameter makes no sense
  kNotFound,         // a file, tensor or part is missing
  kCorrupt,          // a file is there, but its content is broken or not what it should be
  kOutOfMemory,      // over budget
  kIo,               // disk full, permission, network
  kCancelled,        // somebody said stop
  kUnsupported,      // right, but not something we can do
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == ErrorCode::kOk; }
  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  ErrorCode code_ = ErrorCode::kOk;
  std::string message_;
};

inline Status invalid_argument(std::string m) { return {ErrorCode::kInvalidArgument, std::move(m)}; }
inline Status not_found(std::string m) { return {ErrorCode::kNotFound, std::move(m)}; }
inline Status corrupt(std::string m) { return {ErrorCode::kCorrupt, std::move(m)}; }
inline Status out_of_memory(std::string m) { return {ErrorCode::kOutOfMemory, std::move(m)}; }
inline Status io_error(std::string m) { return {ErrorCode::kIo, std::move(m)}; }
inline Status cancelled(std::string m) { return {ErrorCode::kCancelled, std::move(m)}; }
inline Status unsupported(std::string m) { return {ErrorCode::kUnsupported, std::move(m)}; }

// A bug in the program that uses Expected: said, and the process ends. Active in every build.
[[noreturn]] inline void broken_expectation(const char* what, const std::string& message) {
  std::fprintf(stderr, "liveavatar: broken contract: %s%s\n", what, message.c_str());
  std::abort();
}

// A value, or the Status that says why there is none. Ask ok() first: taking a value that is not there asserts, and so
// does making one of a Status that is ok.
template <typename T>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : value_(std::move(value)) {}
  Expected(Status status) : status_(std::move(status)) {
    if (status_.ok()) broken_expectation("an Expected made of a Status that is ok", "");
  }

  bool ok() const { return value_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Status& status() const { return status_; }
  T& operator*() & { return checked(value_); }
  const T& operator*() const& { return checked(value_); }
  T&& operator*() && { return std::move(checked(value_)); }
  T* operator->() { return &checked(value_); }
  const T* operator->() const { return &checked(value_); }

 private:
  template <typename Optional>
  auto& checked(Optional& value) const {
    if (!value.has_value()) broken_expectation("a value taken of an Expected that has none: ", status_.message());
    return *value;
  }

  std::optional<T> value_;
  Status status_;
};

}  // namespace liveavatar
