#include "serve/video_jobs.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "core/boundary.h"
#include "core/json.h"
#include "serve/errors.h"

namespace liveavatar::serve {
namespace {

constexpr const char* kEnds = "the server ends; send the job again later";

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

const char* video_state_name(VideoState state) {
  switch (state) {
    case VideoState::kQueued:
      return "queued";
    case VideoState::kRunning:
      return "running";
    case VideoState::kCompleted:
      return "completed";
    case VideoState::kFailed:
      return "failed";
    case VideoState::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

std::string video_json(const VideoView& v) {
  const int64_t progress =
      v.state == VideoState::kCompleted ? 100 : v.frames_done * 100 / std::max<int64_t>(v.info.frames, 1);
  nlohmann::ordered_json json{{"id", v.id},
                              {"object", "video"},
                              {"status", video_state_name(v.state)},
                              {"created_at", v.created_at},
                              {"progress", std::min<int64_t>(progress, 100)},
                              {"frames_done", v.frames_done},
                              {"frames", v.info.frames},
                              {"width", v.info.width},
                              {"height", v.info.height},
                              {"fps", v.info.fps}};
  if (v.state == VideoState::kQueued) {
    json["queue_position"] = v.queue_position;
    if (v.live_sessions > 0) json["waits_for"] = "sessions";
    if (v.live_sessions == 0 && v.queue_position > 0) json["waits_for"] = "jobs";
  }
  if (v.state == VideoState::kRunning) json["stage"] = stage_name(v.progress.stage);
  if (!v.info.notes.empty()) json["notes"] = v.info.notes;
  json["timings"] = {{"queued_s", v.queued_s}};
  if (v.frames_done > 0) {
    json["timings"]["first_frame_ms"] = v.first_frame_ms;
    json["timings"]["frames_per_second"] = v.frames_per_second;
  }
  if (v.state != VideoState::kQueued) json["timings"]["wall_s"] = v.wall_s;
  if (v.peak_memory_bytes > 0) json["timings"]["peak_memory_bytes"] = v.peak_memory_bytes;
  if (!v.error.ok()) json["error"] = {{"code", code_name(v.error.code())}, {"message", v.error.message()}};
  return json_text(json);
}

VideoJobs::VideoJobs(EngineHost& engine, const WorkFolder& folder, DeviceTurn& turn, Metrics& metrics,
                     const VideoLimits& limits)
    : engine_(engine), folder_(folder), turn_(turn), metrics_(metrics), limits_(limits), thread_([this] { work(); }) {}

VideoJobs::~VideoJobs() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    for (const auto& job : jobs_) job->stop.request_stop();
  }
  turn_.close();
  changed_.notify_all();
  thread_.join();
}

Expected<VideoView> VideoJobs::add(NewVideo video) {
  auto job = std::make_shared<Job>();
  job->view.id = "video_" + random_id();
  job->view.created_at = static_cast<int64_t>(std::time(nullptr));
  job->view.info = video.info;
  job->view.progress.frames = video.info.frames;
  job->video = std::move(video);
  std::lock_guard lock(mutex_);
  if (draining_ || ended_) return cancelled(kEnds);
  const auto waits = [](const auto& other) { return other->view.state == VideoState::kQueued; };
  if (std::count_if(jobs_.begin(), jobs_.end(), waits) >= limits_.max_queue)
    return out_of_memory("the queue has " + std::to_string(limits_.max_queue) + " jobs already; try again later");
  jobs_.push_back(job);
  changed_.notify_all();
  return view_of(*job);
}

std::shared_ptr<VideoJobs::Job> VideoJobs::find_job(const std::string& id) const {
  for (const auto& job : jobs_)
    if (job->view.id == id) return job;
  return nullptr;
}

VideoView VideoJobs::view_of(const Job& job) const {
  VideoView view = job.view;
  const Clock::time_point now = Clock::now();
  if (view.state == VideoState::kQueued) {
    view.queued_s = seconds_between(job.added, now);
    view.live_sessions = turn_.sessions();
    for (const auto& other : jobs_) {
      if (other.get() == &job) break;
      if (!has_ended(other->view.state)) ++view.queue_position;
    }
  }
  if (view.state == VideoState::kRunning) view.wall_s = seconds_between(job.begun, now);
  return view;
}

std::optional<VideoView> VideoJobs::find(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto job = find_job(id);
  if (!job) return {};
  return view_of(*job);
}

std::vector<VideoView> VideoJobs::all() const {
  std::lock_guard lock(mutex_);
  std::vector<VideoView> views;
  for (auto job = jobs_.rbegin(); job != jobs_.rend(); ++job) views.push_back(view_of(**job));
  return views;
}

std::optional<VideoView> VideoJobs::remove(const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto job = find_job(id);
  if (!job) return {};
  if (has_ended(job->view.state)) {
    std::erase(jobs_, job);
    return view_of(*job);
  }
  job->stop.request_stop();
  if (job->view.state == VideoState::kQueued) {
    finish(*job, cancelled("the job was cancelled while it waited"));
    forget_old();
  }
  changed_.notify_all();
  return view_of(*job);
}

int VideoJobs::queued() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(std::count_if(jobs_.begin(), jobs_.end(),
                                        [](const auto& job) { return job->view.state == VideoState::kQueued; }));
}

bool VideoJobs::is_idle() const {
  std::lock_guard lock(mutex_);
  return std::all_of(jobs_.begin(), jobs_.end(), [](const auto& job) { return has_ended(job->view.state); });
}

void VideoJobs::drain() {
  std::lock_guard lock(mutex_);
  draining_ = true;
  for (const auto& job : jobs_)
    if (job->view.state == VideoState::kQueued) finish(*job, cancelled(kEnds));
  forget_old();
}

// With the lock.
void VideoJobs::forget_old() {
  auto ended = std::count_if(jobs_.begin(), jobs_.end(), [](const auto& job) { return has_ended(job->view.state); });
  for (auto job = jobs_.begin(); job != jobs_.end() && ended > limits_.keep_videos;) {
    const bool goes = has_ended((*job)->view.state);
    ended -= goes ? 1 : 0;
    job = goes ? jobs_.erase(job) : std::next(job);
  }
}

// With the lock.
void VideoJobs::finish(Job& job, const Status& status) {
  VideoView& view = job.view;
  const Clock::time_point now = Clock::now();
  if (view.state == VideoState::kRunning) view.wall_s = seconds_between(job.begun, now);
  if (view.state == VideoState::kQueued) view.queued_s = seconds_between(job.added, now);
  view.state = VideoState::kCompleted;
  if (!status.ok()) view.state = status.code() == ErrorCode::kCancelled ? VideoState::kCancelled : VideoState::kFailed;
  const std::string path = view.video ? view.video->path() : std::string();
  view.error = Status(status.code(), without_path(status.message(), path, "the video"));
  if (!status.ok()) view.video.reset();
  job.video = {};
  metrics_.job(video_state_name(view.state));
}

std::shared_ptr<VideoJobs::Job> VideoJobs::next() {
  std::lock_guard lock(mutex_);
  for (const auto& job : jobs_) {
    if (job->view.state != VideoState::kQueued) continue;
    job->begun = Clock::now();
    job->view.queued_s = seconds_between(job->added, job->begun);
    job->view.state = VideoState::kRunning;
    return job;
  }
  return nullptr;
}

void VideoJobs::run_to_end(Job& job) {
  try {
    const Status status = contained("the job", [&] { return run(job); });
    std::lock_guard lock(mutex_);
    finish(job, status);
    forget_old();
  } catch (...) {  // no memory is left even to say so; the next jobs may find some
    std::lock_guard lock(mutex_);
    if (!has_ended(job.view.state)) job.view.state = VideoState::kFailed;
  }
}

void VideoJobs::work() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] {
        return ended_ || std::any_of(jobs_.begin(), jobs_.end(),
                                     [](const auto& job) { return job->view.state == VideoState::kQueued; });
      });
      if (ended_) return;
    }
    if (!turn_.take_job()) return;
    if (const std::shared_ptr<Job> job = next()) run_to_end(*job);
    turn_.give_back_job();
  }
}

bool VideoJobs::keep_chunk(Job& job, VideoFile& file, const VideoChunk& chunk, Status& kept) {
  kept = file.append(chunk);
  metrics_.frames(Metrics::Frames::kVideo, chunk.frames);
  std::lock_guard lock(mutex_);
  const Clock::time_point now = Clock::now();
  VideoView& view = job.view;
  if (view.frames_done == 0) {
    job.first_frame = now;
    view.first_frame_ms = 1000 * seconds_between(job.begun, now);
  }
  view.frames_done += chunk.frames;
  view.frames_per_second = double(view.frames_done) / std::max(seconds_between(job.begun, now), 1e-9);
  return kept.ok();
}

Status VideoJobs::run(Job& job) {
  const std::shared_ptr<WorkFile> output = folder_.name(".mp4");
  GenerateRequest& request = job.video.request;
  request.on_progress = [&](const Progress& progress) {
    std::lock_guard lock(mutex_);
    job.view.progress = progress;
  };
  LA_ASSIGN_OR_RETURN(std::unique_ptr<VideoFile> file,
                      VideoFile::create(output->path(), job.video.info, request.audio));
  {
    std::lock_guard lock(mutex_);
    job.view.video = output;
  }
  Status kept;
  Status made = engine_.generate(
      request, [&](const VideoChunk& chunk) { return keep_chunk(job, *file, chunk, kept); }, job.stop.get_token());
  if (!kept.ok()) made = kept;
  const Status finished = file->finish();
  std::lock_guard lock(mutex_);
  job.view.peak_memory_bytes = engine_.memory_peak_bytes();
  return made.ok() ? finished : made;
}

}  // namespace liveavatar::serve
