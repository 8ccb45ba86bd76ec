// A live session behind a WebSocket.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "serve/device_turn.h"
#include "serve/engine_host.h"
#include "serve/http/server.h"
#include "serve/live_counts.h"
#include "serve/live_events.h"
#include "serve/live_output.h"
#include "serve/live_voice.h"
#include "serve/metrics.h"
#include "serve/portraits.h"
#include "serve/push_targets.h"
#include "serve/stale_sound.h"
#include "serve/task_queue.h"

namespace liveavatar {
class SoundDemuxer;
}

namespace liveavatar::serve {

struct LiveLimits {
  double start_s = 10;  // until `start`
  double idle_s = 300, lifetime_s = 3600;
  double slow_reader_s = 10, queue_seconds = 60;
};

// All of it outlives the sockets.
struct LiveServices {
  EngineHost& engine;
  Portraits& portraits;
  DeviceTurn& turn;
  Metrics& metrics;
  PushTargets& push_targets;
  TaskQueue& tasks;                   // opens and closes sessions, which takes time
  const std::atomic<bool>& draining;  // no more of them are opened
  LiveLimits limits;
  const Minds& minds;
};

class LiveSocket final : public http::SocketHandler, public std::enable_shared_from_this<LiveSocket> {
 public:
  // turn.take_live() was called for it; it gives that back when all of the session is gone.
  explicit LiveSocket(const LiveServices& services);
  ~LiveSocket() override;

  void on_open(std::shared_ptr<http::Socket> socket) override;
  void on_text(std::string_view text) override;
  void on_binary(std::string_view bytes) override;
  void on_closed() override;

  // Any thread. Ends what came to a limit.
  void check_time();
  void end(int close_code, int status, const std::string& code, const std::string& message);

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { kNew, kOpening, kRunning, kEnded };
  struct Input {
    bool is_text = false;
    std::string bytes;
  };
  // With mutex_.
  void take(const Input& input);
  void take_event(const LiveEvent& event);
  void take_audio(std::string_view bytes);
  void take_samples(std::span<const int16_t> samples);
  template <typename Take>
  void contain(const Take& take_it);
  void take_contained_audio(std::string_view bytes);
  void take_words(const LiveEvent& event);
  bool is_visitors(std::span<const int16_t> samples);
  void end_client_speech();
  void end_speech();
  void interrupt();
  void post(const std::string& event);
  void fail(int close_code, int status, const std::string& code, const std::string& message);
  void begin_opening(std::string text);
  void begin_change(const LiveEvent& event);
  void say_push_trouble(const std::string& name, PushTrouble trouble);

  // On the tasks' thread.
  void open(const std::string& start);
  Status open_session(const std::string& start);
  Status open_demuxer(const LiveStart& start);
  Expected<Portrait> portrait_of(const std::string& text) const;
  void change(const LiveEvent& event);
  Expected<int64_t> change_session(const LiveEvent& event);
  Status take_push(const std::string& name);
  void release();

  // On the threads of the voice.
  LiveVoice::Calls voice_calls();
  Expected<int64_t> push_speech(std::span<const int16_t> samples, const std::stop_token& stop);
  void end_said(const std::stop_token& stop);

  // On the session's thread.
  bool on_chunk(const LiveChunk& chunk);
  Status begin_output(const LiveChunk& chunk);
  bool send_chunk(const LiveChunk& chunk);
  void drop_stale_sound(const LiveChunk& chunk);
  void on_end(const Status& why);
  bool send(bool is_text, std::string bytes);
  bool send_all(const std::vector<std::string>& events);

  const LiveServices services_;
  std::mutex mutex_;
  std::shared_ptr<http::Socket> socket_;
  State state_ = State::kNew;
  std::deque<Input> waiting_;  // that came while the session was opened
  size_t waiting_bytes_ = 0;
  std::optional<char> half_sample_;
  std::unique_ptr<SoundDemuxer> demuxer_;  // null: s16 samples come
  std::unique_ptr<PlaybackEvents> playback_;
  std::unique_ptr<LiveSession> session_;
  std::unique_ptr<LiveVoice> voice_;  // null until the session is opened
  std::shared_ptr<WorkFile> portrait_;
  std::shared_ptr<Push> push_;  // set before the session is there; null: none
  Clock::time_point opened_ = Clock::now(), heard_ = opened_;
  bool closed_ = false, changing_ = false;
  bool released_ = false;  // of the tasks' thread
  LastTask<LiveSocket> release_{&LiveSocket::release};

  // Of the session's thread.
  LiveFormat format_ = LiveFormat::kMp4;
  std::unique_ptr<LiveOutput> output_;
  BlockStats stats_;
  bool microphone_ = false;
  StaleSound stale_sound_;
  LiveCounts counts_;
  bool sent_ = true;  // false: the client is gone or does not read
};

}  // namespace liveavatar::serve
