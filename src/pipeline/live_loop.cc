#include "pipeline/live_loop.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "core/boundary.h"
#include "core/size_text.h"
#include "plan/memory_plan.h"

namespace liveavatar {
namespace {

using namespace std::chrono_literals;
constexpr auto kBlock = 480ms;
static_assert(kBlock == 1000ms * kBlockFrames / kFps);

double seconds(LiveClock::Time::duration duration) { return std::chrono::duration<double>(duration).count(); }

// `name` as milliseconds.
Expected<int64_t> in_range(const char* name, double value, double least, double most) {
  if (value >= least && value <= most) return std::llround(value * 1000);
  char text[120];
  std::snprintf(text, sizeof(text), "`%s` %g: choose %g to %g seconds", name, value, least, most);
  return invalid_argument(text);
}

Expected<LiveShape> live_shape(const LiveRequest& request) {
  LiveShape shape;
  LA_RETURN_IF_ERROR(check_live_rate(request.sample_rate));
  shape.rate_hz = request.sample_rate;
  LA_ASSIGN_OR_RETURN(shape.context_ms, in_range("context_seconds", request.context_seconds, 0.5, 10));
  LA_ASSIGN_OR_RETURN(shape.look_ahead_ms, in_range("look_ahead_seconds", request.look_ahead_seconds, 0, 0.4));
  LA_ASSIGN_OR_RETURN(shape.queue_ms, in_range("queue_seconds", request.queue_seconds, 1, 600));
  shape.microphone = request.microphone;
  shape.changes = request.allow_changes;
  return shape;
}

GenerateRequest job_of(const LiveRequest& request) {
  GenerateRequest job;
  job.image = request.image;
  job.prompt = request.prompt;
  job.size = request.size;
  job.fit = request.fit;
  job.infer_frames = request.infer_frames;
  job.sample_steps = request.sample_steps;
  job.sample_shift = request.sample_shift;
  job.seed = request.seed;
  job.schedule = Schedule::kSequential;
  job.num_clip = 1;
  return job;
}

}  // namespace

Expected<LiveJob> resolve_live(const Checkpoint& checkpoint, const LiveRequest& request) {
  if (request.image.empty()) return not_found("`image`: none is given; name the portrait, any picture FFmpeg reads");
  LiveJob live;
  ResolveOptions options = resolve_options(checkpoint);
  LA_ASSIGN_OR_RETURN(options.models.live, live_shape(request));
  options.models.decode_beside = false;
  options.models.decode_threads = 0;
  LA_ASSIGN_OR_RETURN(live.job, resolve(options, job_of(request)));
  live.shape = live.job.shape;
  live.shape.shares_weights = true;
  LA_ASSIGN_OR_RETURN(live.plan, plan_memory(live.shape));
  return live;
}

LiveLoop::LiveLoop(Models& models, std::atomic<bool>& device_taken, LiveClock* clock)
    : models_(models), device_taken_(device_taken), clock_(clock == nullptr ? real_clock_ : *clock) {
  thread_ = std::thread([this] { serve(); });
}

LiveLoop::~LiveLoop() {
  {
    std::lock_guard lock(signal_->mutex);
    stop_ = true;
  }
  signal_->changed.notify_all();
  thread_.join();
}

Expected<std::shared_ptr<LiveFeed>> LiveLoop::open(const LiveRequest& request, const LiveCallbacks& callbacks) {
  if (!callbacks.on_chunk)
    return invalid_argument("open_live: on_chunk is empty; give a function that takes the frames");
  Opening opening;
  LA_ASSIGN_OR_RETURN(opening.live, resolve_live(*models_.checkpoint, request));
  opening.feed = std::make_shared<LiveFeed>(opening.live.shape, callbacks, signal_);
  std::future<Status> done = opening.done.get_future();
  {
    std::lock_guard lock(signal_->mutex);
    openings_.push_back(&opening);
  }
  signal_->changed.notify_all();
  LA_RETURN_IF_ERROR(done.get());
  return opening.feed;
}

void LiveLoop::serve() {
  std::unique_lock lock(signal_->mutex);
  while (!stop_) {
    const Status failed = contained("live", [&] {
      serve_turn(lock);
      return Status();
    });
    if (!lock.owns_lock()) lock.lock();
    if (!failed.ok()) fail_all(failed);
  }
  const Status ended = cancelled("the live session's engine has ended");
  for (Opening* opening : openings_) opening->done.set_value(ended);
  openings_.clear();
  lock.unlock();
  for (auto& session : sessions_) session->feed->end(ended);
  release(std::exchange(sessions_, {}));
}

void LiveLoop::serve_turn(std::unique_lock<std::mutex>& lock) {
  open_waiting(lock);
  if (remove_finished(lock)) return;
  if (serve_changes(lock)) return;
  const std::vector<Session*> due = due_sessions(clock_.now());
  if (!due.empty()) {
    lock.unlock();
    make_blocks(due);
    lock.lock();
  } else if (openings_.empty() && !stop_) {
    clock_.wait(lock, signal_->changed, next_due());
  }
}

void LiveLoop::fail_all(const Status& why) {
  for (auto& session : sessions_) {
    session->status = why;
    session->feed->end(why);
  }
}

void LiveLoop::open_waiting(std::unique_lock<std::mutex>& lock) {
  while (!openings_.empty() && !stop_) {
    Opening& opening = *openings_.front();
    openings_.pop_front();
    lock.unlock();
    const Status status = contained("open_live", [&] { return open_session(opening); });
    if (sessions_.empty()) forget_device();
    opening.done.set_value(status);  // the opening is gone then
    lock.lock();
  }
}

Status LiveLoop::open_session(Opening& opening) {
  if (sessions_.empty()) {
    if (device_taken_.exchange(true))
      return unsupported(
          "open_live: this engine is running a job; wait until generate() has returned, or load a second engine");
    holds_device_ = true;
  }
  LA_RETURN_IF_ERROR(admit(opening));
  if (weights_ == nullptr) {
    LA_ASSIGN_OR_RETURN(weights_, models_.dit->open_weight_groups({opening.live.shape.layers()}, *models_.budget));
  }
  auto session = std::make_unique<Session>();
  session->feed = opening.feed;
  LA_ASSIGN_OR_RETURN(session->budget, Budget::open_within(*models_.budget, opening.live.plan.session_bytes));
  auto video = LiveVideo::open(models_, *session->budget, std::move(opening.live.job),
                               {opening.live.shape, weights_.get(), opening.feed});
  if (!video.ok()) return video.status();
  session->video = *std::move(video);
  scratch_bytes_ = std::max(scratch_bytes_, opening.live.plan.scratch_bytes);
  const Time now = clock_.now();
  if (sessions_.empty()) first_due_ = now;
  session->due = first_due_ + (now - first_due_ + kBlock - Time::duration(1)) / kBlock * kBlock;
  sessions_.push_back(std::move(session));
  return {};
}

// kOutOfMemory where the plan of one more does not fit, before anything is allocated.
Status LiveLoop::admit(const Opening& opening) {
  const MemoryPlan& plan = opening.live.plan;
  auto check = [](const char* field, Budget& budget, size_t wanted) -> Status {
    if (wanted <= budget.left_bytes()) return {};
    return out_of_memory(std::string(field) + " " + limit_text(budget.limit_bytes()) +
                         ": one more live session takes " + mib(wanted) + ", and " + mib(budget.left_bytes()) +
                         " are left; close another session, raise the budget, or choose a smaller `size`");
  };
  const size_t scratch = plan.scratch_bytes - std::min(plan.scratch_bytes, scratch_bytes_);
  LA_RETURN_IF_ERROR(check("`memory_budget_bytes`", *models_.budget, plan.session_bytes + scratch));
  if (models_.host_budget == nullptr) return {};
  return check("`host_budget_bytes`", *models_.host_budget, plan.host.session_bytes);
}

// Whether there were some: time has passed.
bool LiveLoop::serve_changes(std::unique_lock<std::mutex>& lock) {
  bool served = false;
  for (auto& session : sessions_) {
    LiveChange* change = session->status.ok() ? session->feed->take_change() : nullptr;
    if (change == nullptr) continue;
    lock.unlock();
    serve_change(*session, *change);
    lock.lock();
    served = true;
  }
  return served;
}

void LiveLoop::serve_change(Session& session, LiveChange& change) {
  bool broken = false;
  const Expected<int64_t> changed =
      contained(change.call(), [&]() -> Expected<int64_t> { return session.video->change(change, broken); });
  if (broken) {
    session.status = changed.status();
    session.feed->end(session.status);
  }
  change.done.set_value(changed);  // the change is gone then
}

// Whether there were some: others may have finished while the lock was open.
bool LiveLoop::remove_finished(std::unique_lock<std::mutex>& lock) {
  Sessions gone;
  for (auto& session : sessions_)
    if (session->feed->finished()) gone.push_back(std::move(session));
  if (gone.empty()) return false;
  std::erase(sessions_, nullptr);
  lock.unlock();
  release(std::move(gone));
  lock.lock();
  return true;
}

// Whoever waits for a session's end finds its memory free, and the device where it was the last.
void LiveLoop::release(Sessions gone) {
  std::vector<std::shared_ptr<LiveFeed>> feeds;
  for (auto& session : gone) {
    session->video.reset();
    session->feed->free_memory();
    feeds.push_back(session->feed);
  }
  gone.clear();
  if (sessions_.empty()) forget_device();
  for (auto& feed : feeds) feed->release();
}

// Without sessions nothing of them stays.
void LiveLoop::forget_device() {
  if (!holds_device_) return;
  weights_.reset();
  models_.release_scratch();
  scratch_bytes_ = 0;
  holds_device_ = false;
  device_taken_ = false;
}

std::vector<LiveLoop::Session*> LiveLoop::due_sessions(Time now) {
  std::vector<Session*> due;
  for (auto& session : sessions_)
    if (session->status.ok() && session->due <= now && session->feed->has_room(kBlockLatents))
      due.push_back(session.get());
  return due;
}

// Of those that have room; the others' callers raise the signal.
LiveLoop::Time LiveLoop::next_due() const {
  Time next = Time::max();
  for (const auto& session : sessions_)
    if (session->status.ok() && session->feed->has_room(kBlockLatents)) next = std::min(next, session->due);
  return next;
}

// Whole blocks pass, so that sessions stay due at the same moments.
void LiveLoop::pause_if_too_late(Session& session, Time now) const {
  const auto blocks = (now - session.due) / kBlock;
  if (blocks < 1) return;
  session.due += blocks * kBlock;
  session.paused_seconds += seconds(blocks * kBlock);
}

void LiveLoop::make_blocks(const std::vector<Session*>& due) {
  const Time now = clock_.now();
  std::vector<Denoiser::Run> runs;
  for (Session* session : due) {
    pause_if_too_late(*session, now);
    session->late_seconds = seconds(now - session->due);
    session->due += kBlock;
    runs.push_back(session->video->run());
  }
  const auto began = std::chrono::steady_clock::now();
  const Status shared = contained("live", [&] { return Denoiser::run_together(*weights_, runs); });
  const double sample_seconds = seconds(std::chrono::steady_clock::now() - began);
  for (size_t i = 0; i < due.size(); ++i) due[i]->status = runs[i].status.ok() ? shared : runs[i].status;
  decode(due, sample_seconds);
  for (Session* session : due)
    if (!session->status.ok()) session->feed->end(session->status);
}

// The first latent of all before the second of any.
void LiveLoop::decode(const std::vector<Session*>& due, double sample_seconds) {
  auto for_each = [&](auto step) {
    for (Session* session : due)
      if (session->status.ok()) session->status = contained("live", [&] { return step(*session); });
  };
  for (int64_t latent = 0; latent < kBlockLatents; ++latent)
    for_each([&](Session& s) { return s.video->decode(latent, {s.late_seconds, s.paused_seconds, sample_seconds}); });
  for_each([](Session& s) { return s.video->finish_block(); });
}

}  // namespace liveavatar
