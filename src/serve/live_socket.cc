#include "serve/live_socket.h"

#include <cstring>
#include <utility>

#include "core/boundary.h"
#include "serve/base64.h"
#include "serve/errors.h"
#include "serve/small_json.h"

namespace liveavatar::serve {
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kMostEventBytes = 64 << 10, kMostWaitingBytes = 4 << 20;
constexpr int kNormal = 1000, kGoingAway = 1001, kPolicy = 1008, kInternal = 1011, kTryLater = 1013;

double seconds_since(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - time).count();
}

PushStats push_stats(const PushCounts& counts) {
  return {counts.connected, counts.sent_frames, counts.dropped_frames, counts.connections};
}

http::Message message_of(bool is_text, std::string bytes) {
  return {is_text, std::make_shared<const std::string>(std::move(bytes))};
}

}  // namespace

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
    if (voice_) voice_->cancel();
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

void LiveSocket::on_text(std::string_view text) {
  std::lock_guard lock(mutex_);
  heard_ = Clock::now();
  if (state_ == State::kNew && text.size() > kMostEventBytes) return begin_opening(std::string(text));
  if (text.size() > kMostEventBytes) return post(error_event(400, "invalid_argument", "an event has 64 KiB at most"));
  take({true, std::string(text)});
}

void LiveSocket::on_binary(std::string_view bytes) {
  std::lock_guard lock(mutex_);
  heard_ = Clock::now();
  if (state_ == State::kNew)
    return fail(kPolicy, 400, "invalid_argument", "sound came before start; send the event start first");
  take({false, std::string(bytes)});
}

void LiveSocket::take(const Input& input) {
  if (state_ == State::kEnded) return;
  if (state_ == State::kOpening) {
    waiting_bytes_ += sizeof(Input) + input.bytes.size();
    if (waiting_bytes_ > kMostWaitingBytes)
      return fail(kPolicy, 400, "invalid_argument",
                  "too much came before the session was started; wait for the event started");
    waiting_.push_back(input);
    return;
  }
  if (!input.is_text && demuxer_) return take_contained_audio(input.bytes);
  if (!input.is_text) return take_audio(input.bytes);
  const auto event = parse_live_event(input.bytes);
  if (!event.ok()) return post(error_event(400, "invalid_argument", event.status().message()));
  if (event->type == LiveEvent::Type::kStart && state_ == State::kNew) return begin_opening(input.bytes);
  take_event(*event);
}

void LiveSocket::take_event(const LiveEvent& event) {
  switch (event.type) {
    case LiveEvent::Type::kPing: {
      Json pong{{"type", "pong"}};
      if (event.body.contains("id")) pong["id"] = event.body["id"];
      return post(json_text(pong));
    }
    case LiveEvent::Type::kStop:
      state_ = State::kEnded;
      post(json_text(Json{{"type", "stopped"}}));
      if (socket_) socket_->close(kNormal, "stop");
      return;
    case LiveEvent::Type::kStart:
      return post(error_event(400, "invalid_argument", "the session was started already; open another socket"));
    case LiveEvent::Type::kEndSpeech:
    case LiveEvent::Type::kInterrupt:
    case LiveEvent::Type::kSetPrompt:
    case LiveEvent::Type::kSetPortrait:
    case LiveEvent::Type::kSay:
    case LiveEvent::Type::kAsk:
      break;
  }
  if (state_ != State::kRunning) return post(error_event(400, "invalid_argument", "send start first"));
  if (event.type == LiveEvent::Type::kSetPrompt || event.type == LiveEvent::Type::kSetPortrait)
    return begin_change(event);
  half_sample_.reset();
  if (event.type == LiveEvent::Type::kInterrupt) return interrupt();
  if (event.type != LiveEvent::Type::kEndSpeech) return take_words(event);
  if (!demuxer_) return end_client_speech();
  demuxer_->then([this] {
    std::lock_guard lock(mutex_);
    if (state_ == State::kRunning) end_client_speech();
  });
}

// Of the portrait, or of a visitor.
void LiveSocket::end_client_speech() {
  const LiveVoice::Heard ended = voice_->end_speech();
  for (const std::string& told : ended.events) post(told);
  if (ended.is_portraits) end_speech();
}

void LiveSocket::end_speech() {
  playback_->end_speech();
  if (const Status ended = session_->end_speech(); !ended.ok()) post(error_event(503, "cancelled", ended.message()));
}

// A text is a speech of its own; one that is asked stops what is spoken.
void LiveSocket::take_words(const LiveEvent& event) {
  const bool is_said = event.type == LiveEvent::Type::kSay;
  const bool is_speaking = playback_->is_playing() || voice_->is_busy();
  if (is_said && !voice_->is_busy()) end_speech();
  if (!is_said && voice_->converses() && is_speaking) interrupt();
  const Status taken = is_said ? voice_->say(event.body) : voice_->ask(event.body);
  if (taken.ok()) return;
  const bool is_full = taken.code() == ErrorCode::kOutOfMemory, is_absent = taken.code() == ErrorCode::kUnsupported;
  if (is_full) return post(error_event(429, "queue_full", taken.message()));
  post(error_event(is_absent ? 501 : 400, is_absent ? "no_speech" : "invalid_argument", taken.message()));
}

// Or nobody's: it is not the portrait's.
bool LiveSocket::is_visitors(std::span<const int16_t> samples) {
  const LiveVoice::Heard heard = voice_->hear(samples);
  for (const std::string& event : heard.events) post(event);
  if (heard.interrupts && (playback_->is_playing() || voice_->is_busy())) interrupt();
  return !heard.is_portraits;
}

LiveVoice::Calls LiveSocket::voice_calls() {
  LiveVoice::Calls calls;
  calls.sound.push = [this](std::span<const int16_t> samples, const std::stop_token& stop) {
    return push_speech(samples, stop);
  };
  calls.sound.end_speech = [this](const std::stop_token& stop) { end_said(stop); };
  calls.post = [this](const std::string& event) {
    std::lock_guard lock(mutex_);
    post(event);
  };
  return calls;
}

Expected<int64_t> LiveSocket::push_speech(std::span<const int16_t> samples, const std::stop_token& stop) {
  std::lock_guard lock(mutex_);
  if (state_ != State::kRunning || stop.stop_requested()) return cancelled("the speech was interrupted");
  if (playback_->is_full()) return out_of_memory("too many speeches wait");
  LA_RETURN_IF_ERROR(session_->push(samples));
  playback_->pushed(static_cast<int64_t>(samples.size()));
  return playback_->last_speech();
}

void LiveSocket::end_said(const std::stop_token& stop) {
  std::lock_guard lock(mutex_);
  if (state_ == State::kRunning && !stop.stop_requested()) end_speech();
}

void LiveSocket::interrupt() {
  voice_->cancel();
  const auto stops_at = session_->interrupt();
  if (!stops_at.ok()) return post(error_event(503, "cancelled", stops_at.status().message()));
  const std::vector<std::string> events = playback_->interrupted(*stops_at);
  post(json_text(Json{
      {"type", "interrupted"}, {"speech", stops_at->speech}, {"position_s", playback_->seconds(stops_at->samples)}}));
  for (const std::string& event : events) post(event);
  for (const std::string& event : voice_->interrupted(*stops_at)) post(event);
}

// Pieces end anywhere, also within a sample.
void LiveSocket::take_audio(std::string_view bytes) {
  std::string joined;
  if (half_sample_) {
    joined = *half_sample_;
    joined += bytes;
    bytes = joined;
    half_sample_.reset();
  }
  std::vector<int16_t> samples(bytes.size() / sizeof(int16_t));
  std::memcpy(samples.data(), bytes.data(), samples.size() * sizeof(int16_t));
  if (bytes.size() % sizeof(int16_t) != 0) half_sample_ = bytes.back();
  take_samples(samples);
}

void LiveSocket::take_samples(std::span<const int16_t> samples) {
  if (is_visitors(samples)) return;
  if (!samples.empty() && playback_->is_full())
    return post(error_event(429, "queue_full", "too many speeches wait; end one when it has more to say"));
  const Status pushed = session_->push(samples);
  if (pushed.ok()) return playback_->pushed(static_cast<int64_t>(samples.size()));
  const bool is_full = pushed.code() == ErrorCode::kOutOfMemory;
  post(error_event(is_full ? 429 : 503, is_full ? "queue_full" : "cancelled", pushed.message()));
}

void LiveSocket::take_contained_audio(std::string_view bytes) {
  if (const Status taken = demuxer_->push(bytes); !taken.ok()) post(error_event(429, "queue_full", taken.message()));
}

// Its calls come on its thread, which ends before this object does.
Status LiveSocket::open_demuxer(const LiveStart& start) {
  if (start.container.empty()) return {};
  SoundCalls calls;
  calls.on_samples = [this](std::span<const int16_t> samples) {
    std::lock_guard lock(mutex_);
    if (state_ == State::kRunning) take_samples(samples);
  };
  calls.on_error = [this](const Status& why) { end(kPolicy, code_name(why.code()), why.message()); };
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

void LiveSocket::end(int close_code, const std::string& code, const std::string& message) {
  std::lock_guard lock(mutex_);
  if (state_ != State::kEnded) fail(close_code, 503, code, message);
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
  state_ = State::kOpening;
  services_.tasks.add([self = shared_from_this(), text = std::move(text)] { self->open(text); });
}

void LiveSocket::open(const std::string& start) {
  if (std::lock_guard lock(mutex_); state_ != State::kOpening) return;  // the client has gone: others need the time
  if (services_.draining) return end(kGoingAway, "draining", "the server ends and takes no more work");
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

// One at a time: the session has the memory for one, and a client could queue any number.
void LiveSocket::begin_change(const LiveEvent& event) {
  if (changing_) return post(error_event(429, "busy", "a change is being made; wait for its answer"));
  changing_ = true;
  services_.tasks.add([self = shared_from_this(), event] { self->change(event); });
}

void LiveSocket::change(const LiveEvent& event) {
  Expected<int64_t> first_frame = 0;
  const Status done = contained("the change", [&] {
    first_frame = change_session(event);
    return first_frame.status();
  });
  std::lock_guard lock(mutex_);
  changing_ = false;
  if (!done.ok()) return post(error_event(http_status(done), code_name(done.code()), done.message()));
  const char* type = event.type == LiveEvent::Type::kSetPrompt ? "prompt_changed" : "portrait_changed";
  post(json_text(Json{{"type", type}, {"time_s", double(*first_frame) / 25}}));
}

// The session waits for its turn meanwhile, and needs the mutex for its chunks. This thread alone takes it away.
Expected<int64_t> LiveSocket::change_session(const LiveEvent& event) {
  LiveSession* session = nullptr;
  {
    std::lock_guard lock(mutex_);
    session = session_.get();
  }
  if (session == nullptr) return Status(ErrorCode::kCancelled, "the session has ended");
  const bool is_prompt = event.type == LiveEvent::Type::kSetPrompt;
  const std::string name = is_prompt ? "prompt" : "portrait";
  JsonReader reader(event.body, "set_" + name);
  const std::string value = reader.text(name.c_str(), "");
  LA_RETURN_IF_ERROR(client_error(reader.status()));
  if (is_prompt) return session->set_prompt(value);
  LA_ASSIGN_OR_RETURN(const Portrait portrait, portrait_of(value));
  const auto first_frame = session->set_portrait(portrait.file->path());
  if (first_frame.ok()) return first_frame;
  return Status(first_frame.status().code(),
                without_path(first_frame.status().message(), portrait.file->path(), "the portrait"));
}

bool LiveSocket::send(bool is_text, std::string bytes) {
  std::shared_ptr<http::Socket> socket;
  {
    std::lock_guard lock(mutex_);
    socket = closed_ ? nullptr : socket_;
  }
  if (!socket || !sent_) return sent_ = false;
  const auto patience = std::chrono::milliseconds(static_cast<int64_t>(services_.limits.slow_reader_s * 1000));
  const auto sent = socket->send(message_of(is_text, std::move(bytes)), patience);
  if (sent == http::Socket::Sent::kTooSlow) {
    services_.metrics.slow_reader();
    socket->drop(kPolicy, "the client does not read");
  }
  sent_ = sent == http::Socket::Sent::kQueued;
  return sent_;
}

bool LiveSocket::send_all(const std::vector<std::string>& events) {
  for (const std::string& event : events)
    if (!send(true, event)) return false;
  return true;
}

// The first chunk says how large the video is.
Status LiveSocket::begin_output(const LiveChunk& chunk) {
  LA_ASSIGN_OR_RETURN(output_, open_live_output(format_, chunk, [this](std::string bytes) {
                        const Clock::time_point begin = Clock::now();
                        send(false, std::move(bytes));
                        stats_.send_seconds += seconds_since(begin);
                      }));
  Json started{{"type", "started"},
               {"format", format_ == LiveFormat::kRaw ? "raw" : "mp4"},
               {"width", chunk.width},
               {"height", chunk.height},
               {"fps", 25},
               {"sample_rate", chunk.sample_rate}};
  if (!output_->mime().empty()) started["mime"] = output_->mime();
  send(true, json_text(started));
  return {};
}

bool LiveSocket::send_chunk(const LiveChunk& chunk) {
  const Clock::time_point begin = Clock::now();
  const double sent_before = stats_.send_seconds;
  if (const Status written = output_->write(chunk); !written.ok()) {
    end(kInternal, code_name(written.code()), written.message());
    return false;
  }
  const double send_seconds = stats_.send_seconds - sent_before;
  const double encode_seconds = seconds_since(begin) - send_seconds;
  stats_.decode_seconds += chunk.times.decode_seconds;
  stats_.encode_seconds += encode_seconds;
  services_.metrics.stage(Metrics::Stage::kEncode, encode_seconds);
  services_.metrics.stage(Metrics::Stage::kSend, send_seconds);
  return sent_;
}

bool LiveSocket::on_chunk(const LiveChunk& chunk) {
  if (!output_) {
    if (const Status begun = begin_output(chunk); !begun.ok()) {
      end(kPolicy, code_name(begun.code()), begun.message());
      return false;
    }
  }
  counts_.add(chunk);
  if (push_) push_->offer(chunk);
  std::vector<std::string> events;
  {
    std::lock_guard lock(mutex_);
    events = playback_->begins(chunk);
  }
  if (!send_all(events) || !send_chunk(chunk)) return false;
  {
    std::lock_guard lock(mutex_);
    events = playback_->ends(chunk);
    std::vector<std::string> answered;
    if (voice_) answered = voice_->played(chunk.position);
    events.insert(events.end(), answered.begin(), answered.end());
  }
  const bool block_ends = (chunk.first_frame + chunk.frames) % 12 == 0;
  if (block_ends) {
    stats_.block = chunk.first_frame / 12;
    if (push_) stats_.push = push_stats(push_->counts());
    events.push_back(stats_event(chunk, stats_));
    stats_ = {};
  }
  return send_all(events);
}

void LiveSocket::on_end(const Status& why) {
  if (why.code() == ErrorCode::kCancelled && !sent_) return;  // this side ended it
  end(why.code() == ErrorCode::kCancelled ? kGoingAway : kInternal, code_name(why.code()), why.message());
}

}  // namespace liveavatar::serve
