// The queue of jobs, and the thread that works them off one by one while no live session runs.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "liveavatar/liveavatar.h"
#include "serve/device_turn.h"
#include "serve/engine_host.h"
#include "serve/metrics.h"
#include "serve/work_folder.h"

namespace liveavatar::serve {

enum class VideoState { kQueued, kRunning, kCompleted, kFailed, kCancelled };
const char* video_state_name(VideoState state);
inline bool has_ended(VideoState state) { return state != VideoState::kQueued && state != VideoState::kRunning; }

// A job as it stands; a copy.
struct VideoView {
  std::string id;
  VideoState state = VideoState::kQueued;
  int64_t created_at = 0;      // seconds since 1970
  int64_t queue_position = 0;  // jobs before it
  int live_sessions = 0;       // that it waits for, where it is queued
  JobInfo info;
  Progress progress;
  int64_t frames_done = 0;
  double queued_s = 0, first_frame_ms = 0, wall_s = 0, frames_per_second = 0;
  size_t peak_memory_bytes = 0;
  Status error;
  std::shared_ptr<WorkFile> video;  // null: there is none (yet)
};
std::string video_json(const VideoView& view);

struct NewVideo {
  GenerateRequest request;
  JobInfo info;
  std::vector<std::shared_ptr<WorkFile>> inputs;
};

struct VideoLimits {
  int max_queue = 32, keep_videos = 100;
};

// Any thread.
class VideoJobs {
 public:
  VideoJobs(EngineHost& engine, const WorkFolder& folder, DeviceTurn& turn, Metrics& metrics,
            const VideoLimits& limits);
  ~VideoJobs();  // stops the job that runs

  // kOutOfMemory: the queue is full. kCancelled: drain() was called.
  Expected<VideoView> add(NewVideo video);
  std::optional<VideoView> find(const std::string& id) const;
  std::vector<VideoView> all() const;  // the newest first
  // Cancels, or forgets what has ended. Empty: there is no such job.
  std::optional<VideoView> remove(const std::string& id);
  int queued() const;
  // Nothing begins any more: what waits is cancelled. The running job goes on.
  void drain();
  bool is_idle() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Job {
    VideoView view;
    NewVideo video;
    std::stop_source stop;
    Clock::time_point added = Clock::now(), begun, first_frame;
  };
  void work();
  std::shared_ptr<Job> next();
  void run_to_end(Job& job);
  Status run(Job& job);
  bool keep_chunk(Job& job, VideoFile& file, const VideoChunk& chunk, Status& kept);
  void finish(Job& job, const Status& status);
  VideoView view_of(const Job& job) const;  // with the lock
  void forget_old();                        // with the lock
  std::shared_ptr<Job> find_job(const std::string& id) const;

  EngineHost& engine_;
  const WorkFolder& folder_;
  DeviceTurn& turn_;
  Metrics& metrics_;
  const VideoLimits limits_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> jobs_;  // the oldest first
  bool ended_ = false, draining_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace liveavatar::serve
