// All sessions behind WebRTC peers.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "serve/whep_session.h"

namespace liveavatar::serve {

// Any thread.
class WhepSessions {
 public:
  explicit WhepSessions(rtc::PeerSettings settings) : settings_(std::move(settings)) {}

  // turn.take_live() was called. Replies later.
  void open(const LiveServices& services, http::Request request, http::Reply reply);
  // false: there is none of that id.
  bool end(const std::string& id);
  // Also those that are opened afterwards.
  void end_all();
  // Now and then: ends what came to a limit, and forgets what is gone.
  void check_time();

 private:
  const rtc::PeerSettings settings_;
  rtc::PeerHost peers_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<WhepSession>> sessions_;
  bool ended_ = false;
};

}  // namespace liveavatar::serve
