// What live sessions over sockets and over WebRTC share.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "core/clock.h"
#include "serve/http/server.h"

namespace liveavatar::serve {

// Why a WebSocket is closed (RFC 6455).
constexpr int kNormal = 1000, kGoingAway = 1001, kPolicy = 1008, kInternal = 1011, kTryLater = 1013;

inline http::Message message_of(bool is_text, std::string bytes) {
  return {is_text, std::make_shared<const std::string>(std::move(bytes))};
}

}  // namespace liveavatar::serve
