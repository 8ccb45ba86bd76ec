// What live sessions over sockets and over WebRTC share.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "serve/http/server.h"

namespace liveavatar::serve {

// Why a WebSocket is closed (RFC 6455).
constexpr int kNormal = 1000, kGoingAway = 1001, kPolicy = 1008, kInternal = 1011, kTryLater = 1013;

inline double seconds_since(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - time).count();
}

inline http::Message message_of(bool is_text, std::string bytes) {
  return {is_text, std::make_shared<const std::string>(std::move(bytes))};
}

}  // namespace liveavatar::serve
