#include "serve/http/beast_reply.h"

namespace liveavatar::http {

PendingReply::~PendingReply() {
  try {
    send(std::move(otherwise_));
  } catch (const std::exception&) {  // no memory to say so: the request waits until the server ends
  }
}

void PendingReply::send(Response response) {
  if (!waiting_) return;
  net::post(shared_->io, [waiting = waiting_, response = std::move(response)]() mutable {
    waiting->response = std::move(response);
    waiting->timer.cancel();
  });
  waiting_.reset();
}

}  // namespace liveavatar::http
