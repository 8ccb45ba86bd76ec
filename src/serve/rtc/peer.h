// A peer over WebRTC: frames and sound go out, its microphone comes in. It calls us, or we call it. The code that needs
// GStreamer is a plugin (src/serve/rtc/gst) that is loaded here: a server without it runs, and says what to install
// when a peer comes.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/status.h"
#include "liveavatar/live.h"

namespace liveavatar::rtc {

constexpr int kSampleRate = 48000;  // Opus' own, in Hz; of the sound in both directions, mono

// Of the server, for all peers.
struct PeerSettings {
  std::vector<std::string> ice_servers;  // "stun:HOST:PORT", "turn:USER:PASSWORD@HOST:PORT", "turns:..."
  std::string address;                   // this machine's only candidate; empty: all its addresses
};
// kInvalidArgument: what is wrong with one of them.
Status check_ice_server(const std::string& server);

struct Offer {
  std::string sdp;
  int64_t width = 0, height = 0;  // of the frames that will come, pixels
};

// To a server that takes what we send: no microphone comes back.
struct Call {
  int64_t width = 0, height = 0;  // of the frames, pixels
  int sample_rate = kSampleRate;  // of the sound, in Hz: a multiple of 25
  bool vp8 = false;               // also where there is H.264
};

// On threads of the peer, several at once. None may wait or close the peer.
struct PeerCalls {
  std::function<void()> on_connected;
  std::function<void(std::span<const int16_t> samples)> on_microphone;
  std::function<void(const std::string& why)> on_end;  // it failed, or the other side closed it
};

class Peer {
 public:
  virtual ~Peer() = default;  // close()
  // What this side says: the answer to an offer, or the offer of a call.
  virtual const std::string& description() const = 0;
  // Of a call, once. kUnsupported: it takes no video of the codec that was offered. kInvalidArgument: it is no answer.
  virtual Status take_answer(const std::string& sdp) = 0;
  // Copies the frames and the sound, and does not wait. One thread at a time, also while close() runs.
  virtual void write(const LiveChunk& chunk) = 0;
  // It was connected, and nothing comes from it any more. It reports what it gets every few seconds.
  virtual bool is_silent() const = 0;
  // Ends all threads of the peer: no call comes after it. Not from a call. A second call does nothing.
  virtual void close() = 0;
};

// Any thread, several at once.
class PeerMaker {
 public:
  virtual ~PeerMaker() = default;
  // Waits until the answer is complete, with all candidates: some 0.1 s, and seconds where an ICE server is silent.
  // kInvalidArgument: the offer is not to be answered.
  virtual Expected<std::unique_ptr<Peer>> open(const Offer& offer, const PeerSettings& settings, PeerCalls calls) = 0;
  // The same for an offer of ours; nothing goes out before its answer was taken. kUnsupported: there is no such codec.
  virtual Expected<std::unique_ptr<Peer>> call(const Call& call, const PeerSettings& settings, PeerCalls calls) = 0;
};

// What the plugin exports as kPeerFactory. The caller owns the maker.
using PeerFactory = void(Expected<std::unique_ptr<PeerMaker>>* made);
constexpr const char* kPeerFactory = "liveavatar_open_webrtc";
// And as kPeerVersion: a program and a plugin of two versions do not fit.
constexpr const char* kPeerVersion = "liveavatar_webrtc_version";

// The plugin's maker, once it could be loaded. Any thread.
class PeerHost {
 public:
  // kUnsupported: one line that says what to install. It is tried again at each call.
  Expected<PeerMaker*> maker();

 private:
  std::mutex mutex_;
  std::unique_ptr<PeerMaker> maker_;
};

}  // namespace liveavatar::rtc
