// From opening to release.
#include "serve/live_socket.h"

#include <utility>

#include "core/boundary.h"
#include "media/sound_demuxer.h"
#include "serve/base64.h"
#include "serve/errors.h"
#include "serve/live_parts.h"

namespace liveavatar::serve {

LiveSocket::LiveSocket(const LiveServices& services) : services_(services), counts_(services.metrics) {}
LiveSocket::~LiveSocket() {
  if (!released_) services_.turn.give_back_live();  // no connection came to be
}

void LiveSocket::on_open(std::shared_ptr<http::Socket> socket) {
  std::lock_guard lock(mutex_);
  socket_ = std::move(socket);
}

void LiveSocket::on_closed() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    state_ = State::kEnded;
    static_cast<void>(contained("the end", [this] {  // the place is given back whatever is thrown
      if (voice_) voice_->cancel();
      return Status();
    }));
  }
  release_.add_to(services_.tasks, shared_from_this());
}

// The callbacks hold this object until the session is gone.
void LiveSocket::release() {
  std::unique_ptr<LiveSession> session;
  std::unique_ptr<SoundDemuxer> demuxer;
  std::unique_ptr<LiveVoice> voice;
  {
    std::lock_guard lock(mutex_);
    session = std::move(session_);
    demuxer = std::move(demuxer_);
    voice = std::move(voice_);
    socket_.reset();
    portrait_.reset();
    waiting_.clear();
  }
  demuxer.reset();  // its thread and those of the voice take the mutex
  voice.reset();
  if (session) session->close();
  session.reset();
  if (push_) push_->close();
  push_.reset();
  released_ = true;
  services_.turn.give_back_live();
}

// Its calls come on its thread, which ends before this object does.
Status LiveSocket::open_demuxer(const LiveStart& start) {
  if (start.container.empty()) return {};
  SoundCalls calls;
  calls.on_samples = [this](std::span<const int16_t> samples) {
    std::lock_guard lock(mutex_);
    if (state_ == State::kRunning) take_samples(samples);
  };
  calls.on_error = [this](const Status& why) { end(kPolicy, http_status(why), code_name(why.code()), why.message()); };
  LA_ASSIGN_OR_RETURN(std::unique_ptr<SoundDemuxer> demuxer,
                      SoundDemuxer::open(start.container, start.request.sample_rate, std::move(calls)));
  std::lock_guard lock(mutex_);
  demuxer_ = std::move(demuxer);
  return {};
}

void LiveSocket::post(const std::string& event) {
  if (socket_) socket_->post(message_of(true, event));
}

void LiveSocket::fail(int close_code, int status, const std::string& code, const std::string& message) {
  state_ = State::kEnded;
  post(error_event(status, code, message));
  if (socket_) socket_->close(close_code, code);
}

void LiveSocket::end(int close_code, int status, const std::string& code, const std::string& message) {
  std::lock_guard lock(mutex_);
  if (state_ != State::kEnded) fail(close_code, status, code, message);
}

void LiveSocket::check_time() {
  std::lock_guard lock(mutex_);
  if (state_ == State::kEnded) return;
  const LiveLimits& limits = services_.limits;
  if (state_ == State::kNew && seconds_since(opened_) > limits.start_s)
    return fail(kPolicy, 408, "no_start", "the event start did not come in time");
  if (seconds_since(heard_) > limits.idle_s)
    return fail(kNormal, 408, "idle", "nothing came from the client for too long; ping keeps a session open");
  if (seconds_since(opened_) > limits.lifetime_s)
    fail(kNormal, 408, "lifetime", "the session has reached its longest time; open another");
}

void LiveSocket::begin_opening(std::string text) {
  services_.tasks.add([self = shared_from_this(), text = std::move(text)] { self->open(text); });
  state_ = State::kOpening;
}

void LiveSocket::open(const std::string& start) {
  if (std::lock_guard lock(mutex_); state_ != State::kOpening) return;  // the client has gone: others need the time
  if (services_.draining) return end(kGoingAway, 503, "draining", "the server ends and takes no more work");
  const Status opened = contained("start", [&] { return open_session(start); });
  std::lock_guard lock(mutex_);
  if (!opened.ok()) {
    const std::string path = portrait_ ? portrait_->path() : std::string();
    const bool memory = opened.code() == ErrorCode::kOutOfMemory;
    if (state_ != State::kEnded)
      fail(memory ? kTryLater : kPolicy, http_status(opened), code_name(opened.code()),
           without_path(opened.message(), path, "the portrait"));
    return;
  }
  if (state_ != State::kOpening) return;  // closed meanwhile: release() comes behind this task
  state_ = State::kRunning;
  services_.metrics.session();
  for (const Input& input : std::exchange(waiting_, {})) take(input);
}

// Where another session has the target this one is told so, and ends.
Status LiveSocket::take_push(const std::string& name) {
  if (name.empty()) return {};
  auto on_trouble = [weak = weak_from_this(), name](PushTrouble trouble) {
    if (const auto self = weak.lock()) self->say_push_trouble(name, trouble);
  };
  LA_ASSIGN_OR_RETURN(push_, services_.push_targets.take(name, std::move(on_trouble)));
  if (push_) return {};
  const std::string message = "start: another session is sent to the target " + name + "; try again later";
  std::lock_guard lock(mutex_);
  if (state_ != State::kEnded) fail(kTryLater, 409, "push_busy", message);
  return invalid_argument(message);
}

// Where the target is, and why, is for who runs the server.
void LiveSocket::say_push_trouble(const std::string& name, PushTrouble trouble) {
  const bool is_slow = trouble == PushTrouble::kSlow;
  const std::string message =
      is_slow ? "the target does not take the stream as fast as it is made; parts are left out"
              : "the target cannot be reached, or ended the connection; it is tried again while the session goes on";
  std::lock_guard lock(mutex_);
  if (state_ != State::kEnded) post(push_error_event(name, is_slow ? "push_slow" : "push_lost", message));
}

Status LiveSocket::open_session(const std::string& text) {
  LA_ASSIGN_OR_RETURN(const LiveEvent event, parse_live_event(text));
  if (event.type != LiveEvent::Type::kStart) return invalid_argument("the first event must be start");
  LA_ASSIGN_OR_RETURN(LiveStart start, parse_live_start(event.body));
  if (start.converse && !services_.minds.can_converse())
    return unsupported("start: no conversation: " + services_.minds.no_conversation());
  LA_ASSIGN_OR_RETURN(const Portrait portrait, portrait_of(start.portrait));
  LA_RETURN_IF_ERROR(take_push(start.push));
  start.request.image = portrait.file->path();
  start.request.queue_seconds = services_.limits.queue_seconds;
  format_ = start.format;
  microphone_ = start.request.microphone;
  LA_RETURN_IF_ERROR(open_demuxer(start));
  {
    std::lock_guard lock(mutex_);
    portrait_ = portrait.file;
    playback_ = std::make_unique<PlaybackEvents>(start.request.sample_rate);
  }
  const auto self = shared_from_this();
  const LiveCallbacks callbacks{[self](const LiveChunk& chunk) { return self->on_chunk(chunk); },
                                [self](const Status& why) { self->on_end(why); }};
  LA_ASSIGN_OR_RETURN(std::unique_ptr<LiveSession> session, services_.engine.open_live(start.request, callbacks));
  auto voice = std::make_unique<LiveVoice>(services_.minds, start.request.sample_rate, start.converse, voice_calls());
  std::lock_guard lock(mutex_);
  session_ = std::move(session);
  voice_ = std::move(voice);
  return {};
}

Expected<Portrait> LiveSocket::portrait_of(const std::string& text) const {
  if (Portraits::is_name(text)) return services_.portraits.get(text);
  const std::optional<std::string> bytes = base64_decoded(text);
  if (!bytes) return invalid_argument("portrait is neither a name nor base64; a URL or a path is never opened");
  return services_.portraits.read(*bytes);
}

}  // namespace liveavatar::serve
