// The live thread of an engine: all live sessions, a block of each that is due in a turn.
#pragma once

#include <atomic>
#include <deque>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "pipeline/live_clock.h"
#include "pipeline/live_video.h"

namespace liveavatar {

// A session worked out: a job without an end, and what one takes beside others.
struct LiveJob {
  ResolvedJob job;
  JobShape shape;
  MemoryPlan plan;
};
// Opens the portrait. Whether it fits is not looked at.
Expected<LiveJob> resolve_live(const Checkpoint& checkpoint, const LiveRequest& request);

class LiveLoop {
 public:
  // device_taken: by a job, or by the loop while it has sessions. All that it is given outlives it.
  LiveLoop(Models& models, std::atomic<bool>& device_taken, LiveClock* clock = nullptr);
  ~LiveLoop();  // ends all sessions

  // Any thread. Returns when the session can begin.
  Expected<std::shared_ptr<LiveFeed>> open(const LiveRequest& request, const LiveCallbacks& callbacks);

 private:
  using Time = LiveClock::Time;
  // A session that is wanted, worked out on its caller's thread.
  struct Opening {
    LiveJob live;
    std::shared_ptr<LiveFeed> feed;
    std::promise<Status> done;
  };
  struct Session {
    std::shared_ptr<LiveFeed> feed;
    std::unique_ptr<Budget> budget;
    std::unique_ptr<LiveVideo> video;
    Time due;
    double late_seconds = 0, paused_seconds = 0;
    Status status;
  };

  using Sessions = std::vector<std::unique_ptr<Session>>;

  void serve();
  void serve_turn(std::unique_lock<std::mutex>& lock);
  void fail_all(const Status& why);
  void open_waiting(std::unique_lock<std::mutex>& lock);
  Status open_session(Opening& opening);
  Status admit(const Opening& opening);
  bool serve_changes(std::unique_lock<std::mutex>& lock);
  void serve_change(Session& session, LiveChange& change);
  bool remove_finished(std::unique_lock<std::mutex>& lock);
  void release(Sessions gone);
  std::vector<Session*> due_sessions(Time now);
  Time next_due() const;
  void pause_if_too_late(Session& session, Time now) const;
  void make_blocks(const std::vector<Session*>& due);
  void decode(const std::vector<Session*>& due, double sample_seconds);
  void forget_device();

  Models& models_;
  std::atomic<bool>& device_taken_;
  LiveClock real_clock_;
  LiveClock& clock_;
  std::shared_ptr<LiveSignal> signal_ = std::make_shared<LiveSignal>();
  std::deque<Opening*> openings_;             // guarded by the signal's mutex
  bool stop_ = false;                         // guarded as well
  Sessions sessions_;                         // the live thread's, as all below
  std::unique_ptr<DitWeightGroups> weights_;  // of all sessions
  bool holds_device_ = false;
  size_t scratch_bytes_ = 0;  // that sessions have brought the backends to
  Time first_due_;            // all are due whole blocks after it
  std::thread thread_;
};

}  // namespace liveavatar
