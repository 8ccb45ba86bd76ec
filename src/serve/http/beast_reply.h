// A handler's reply on its way to the coroutine that waits for it.
#pragma once

#include <memory>
#include <optional>

#include "serve/http/beast_connection.h"

namespace liveavatar::http {

// On the I/O thread.
struct WaitingAnswer {
  explicit WaitingAnswer(net::io_context& io) : timer(io) {}
  net::steady_timer timer;  // until the client is looked at; cancelled when there is a response, or none is wanted
  std::optional<Response> response;
};

// On any thread, one at a time. Where send() is not called until the end, the answer is `otherwise`.
class PendingReply {
 public:
  PendingReply(std::shared_ptr<Shared> shared, std::shared_ptr<WaitingAnswer> waiting, Response otherwise)
      : shared_(std::move(shared)), waiting_(std::move(waiting)), otherwise_(std::move(otherwise)) {}
  ~PendingReply();
  PendingReply(const PendingReply&) = delete;
  PendingReply& operator=(const PendingReply&) = delete;
  void send(Response response);

 private:
  const std::shared_ptr<Shared> shared_;  // first, so it goes last: the timer belongs to its context
  std::shared_ptr<WaitingAnswer> waiting_;
  Response otherwise_;
};

}  // namespace liveavatar::http
