// Requests and responses as plain values, so that handlers and tests know nothing of the HTTP library.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.h"

namespace liveavatar::http {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct Request {
  std::string method, path, query;  // the path is decoded, the query is not and has no "?"
  std::string peer;                 // the client's address
  Headers headers;                  // names in lower case
  std::string body;                 // empty while only the head was read
  std::stop_token gone = {};        // stopped where nobody waits for the answer any more

  // The first of that name, in lower case; empty: there is none.
  std::string_view header(std::string_view name) const;
  // Whether the head says that a body follows.
  bool announces_body() const;
};

// A body that is made while it is sent.
class BodyStream {
 public:
  virtual ~BodyStream() = default;
  enum class State { kMore, kWait, kEnd };
  // Appends the next bytes, 64 KiB or so at most. kWait: none now, ask again soon. On the I/O thread: never waits.
  virtual State next(std::string& out) = 0;
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  Headers headers;
  std::shared_ptr<BodyStream> stream = nullptr;  // instead of the body
  std::optional<uint64_t> stream_bytes = {};     // its length, where that is known
};

// To be called once, on any thread.
using Reply = std::function<void(Response)>;

// "%20" as a space. kInvalidArgument: half an escape, or a NUL.
Expected<std::string> percent_decoded(std::string_view text);

// "12" of "a=1&b=12"; decoded. Empty: there is none.
std::string query_value(const std::string& query, std::string_view name);

}  // namespace liveavatar::http
