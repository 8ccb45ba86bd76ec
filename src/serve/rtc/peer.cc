#include "serve/rtc/peer.h"

#include <algorithm>
#include <utility>

#include "core/plugin.h"

namespace liveavatar::rtc {
namespace {

Expected<std::unique_ptr<PeerMaker>> load_maker() {
  const std::string file = find_plugin("webrtc");
  if (file.empty())
    return unsupported("built without WebRTC: install the packages of scripts/packages-webrtc.txt and build again");
  LA_ASSIGN_OR_RETURN(void* factory, load_plugin(file, {kPeerVersion, kPeerFactory},
                                                 "install gstreamer1.0-nice and gstreamer1.0-plugins-base, -good, "
                                                 "-bad and -ugly"));
  Expected<std::unique_ptr<PeerMaker>> made = invalid_argument("not made");
  reinterpret_cast<PeerFactory*>(factory)(&made);
  return made;
}

}  // namespace

Status check_ice_server(const std::string& server) {
  const std::string kind = server.substr(0, server.find(':'));
  const bool is_stun = kind == "stun", is_turn = kind == "turn" || kind == "turns";
  const std::string rest = server.substr(std::min(server.size(), kind.size() + 1));
  const size_t at = rest.rfind('@');
  const bool has_user = at != std::string::npos && rest.find(':') < at;
  const bool is_clean = std::all_of(rest.begin(), rest.end(), [](unsigned char c) { return c > ' ' && c < 127; });
  const bool has_host = at == std::string::npos ? !rest.empty() : at + 1 < rest.size();
  const bool is_good = is_clean && has_host && !rest.starts_with("//") &&
                       ((is_stun && at == std::string::npos) || (is_turn && has_user));
  if (is_good) return {};
  return invalid_argument("`ice_server` \"" + (is_turn ? kind + ":..." : server) +
                          "\": write stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT");
}

Expected<PeerMaker*> PeerHost::maker() {
  std::lock_guard lock(mutex_);
  if (!maker_) {
    LA_ASSIGN_OR_RETURN(maker_, load_maker());
  }
  return maker_.get();
}

}  // namespace liveavatar::rtc
