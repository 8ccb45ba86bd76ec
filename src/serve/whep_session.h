// A live session behind a WebRTC peer: WHEP with the peer's microphone.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "serve/http/message.h"
#include "serve/live_counts.h"
#include "serve/live_socket.h"
#include "serve/rtc/peer.h"

namespace liveavatar::serve {

// Both outlive the sessions.
struct WhepServices {
  LiveServices live;
  rtc::PeerHost& peers;
  const rtc::PeerSettings& settings;
};

// What the query of a POST asks for. The sound's rate is that of WebRTC.
Expected<LiveStart> parse_whep_query(const std::string& query);

// Any thread.
class WhepSession final : public std::enable_shared_from_this<WhepSession> {
 public:
  // turn.take_live() was called for it; it gives that back when all of the session is gone.
  WhepSession(const WhepServices& services, std::string id);

  const std::string& id() const { return id_; }
  // Once. 201 with the answer, or what is wrong; replies from the tasks' thread, which does all that takes time.
  void begin(http::Request request, http::Reply reply);
  // Ends what came to a limit.
  void check_time();
  void end();
  bool is_gone() const { return gone_; }

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { kOpening, kConnecting, kRunning, kEnded };

  // On the tasks' thread.
  http::Response open(const http::Request& request);
  Status open_session(LiveStart start);
  Status open_peer(rtc::PeerMaker& maker, const std::string& sdp);
  void release();

  // On threads of the peer or of the session, which hold no lock of ours.
  void on_connected();
  void on_microphone(std::span<const int16_t> samples);
  bool on_chunk(const LiveChunk& chunk);

  const WhepServices services_;
  const std::string id_;
  std::mutex mutex_;
  State state_ = State::kOpening;
  Clock::time_point since_ = Clock::now(), opened_ = since_;  // of the state; of the session
  std::shared_ptr<LiveSession> session_;
  std::shared_ptr<rtc::Peer> peer_;
  std::shared_ptr<WorkFile> portrait_;
  std::atomic<bool> gone_ = false;
  std::atomic<int64_t> queued_samples_ = 0;  // of the microphone
  std::atomic<bool> skipping_ = false;
  LiveCounts counts_;  // of the session's thread
  LastTask<WhepSession> release_{&WhepSession::release};
};

}  // namespace liveavatar::serve
