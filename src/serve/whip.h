// WHIP (RFC 9725): frames and sound to a media server over WebRTC, which we call.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "core/status.h"
#include "serve/rtc/peer.h"

namespace liveavatar {
class LiveStream;
struct StreamAddress;
}  // namespace liveavatar

namespace liveavatar::serve {

struct WhipOptions {
  std::string token;  // for all servers of WHIP; empty: none is sent
  std::vector<std::string> ice_servers;
};

// One server. Any thread.
class WhipServer {
 public:
  // Connects to nothing. kUnsupported: one line that says what to install. address: of WHIP.
  static Expected<std::shared_ptr<WhipServer>> create(const StreamAddress& address, const WhipOptions& options);

  // A call that is connected, 10 s after the offer at most. Errors name the server, without secrets. Nothing is called
  // again when it is lost. After a stop: kCancelled.
  Expected<std::unique_ptr<LiveStream>> open(const rtc::Call& media, const std::stop_token& stop);
  const std::string& shown() const { return shown_; }

 private:
  WhipServer(const StreamAddress& address, const WhipOptions& options);

  const std::string url_, shown_, token_;
  const rtc::PeerSettings network_;
  rtc::PeerHost peers_;
};

}  // namespace liveavatar::serve
