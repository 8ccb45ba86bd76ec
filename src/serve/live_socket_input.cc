// What a client sends: events and sound, and what is spoken in its place.
#include <cstring>
#include <utility>

#include "core/boundary.h"
#include "media/sound_demuxer.h"
#include "serve/errors.h"
#include "serve/live_parts.h"
#include "serve/live_socket.h"
#include "serve/small_json.h"

namespace liveavatar::serve {
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kMostEventBytes = 64 << 10, kMostWaitingBytes = 4 << 20;

}  // namespace

// What is thrown at an event is that event's error.
template <typename Take>
void LiveSocket::contain(const Take& take_it) {
  const Status taken = contained("the event", [&] {
    take_it();
    return Status();
  });
  if (!taken.ok()) post(error_event(http_status(taken), code_name(taken.code()), taken.message()));
}

void LiveSocket::on_text(std::string_view text) {
  std::lock_guard lock(mutex_);
  heard_ = Clock::now();
  contain([&] {
    if (state_ == State::kNew && text.size() > kMostEventBytes) return begin_opening(std::string(text));
    if (text.size() > kMostEventBytes) return post(error_event(400, "invalid_argument", "an event has 64 KiB at most"));
    take({true, std::string(text)});
  });
}

void LiveSocket::on_binary(std::string_view bytes) {
  std::lock_guard lock(mutex_);
  heard_ = Clock::now();
  if (state_ == State::kNew)
    return fail(kPolicy, 400, "invalid_argument", "sound came before start; send the event start first");
  contain([&] { take({false, std::string(bytes)}); });
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
  if (event.type == LiveEvent::Type::kSay || event.type == LiveEvent::Type::kAsk) return take_words(event);
  half_sample_.reset();
  if (event.type == LiveEvent::Type::kInterrupt) return interrupt();
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
  auto words = words_of(event.body, is_said ? "say" : "ask");
  if (!words.ok())  // before anything stops for it
    return post(error_event(400, "invalid_argument", words.status().message()));
  const bool is_busy = voice_->is_busy(), is_speaking = playback_->is_playing() || is_busy;
  if (!is_said && voice_->converses() && is_speaking) interrupt();
  const Status taken = is_said ? voice_->say(event.body, *std::move(words)) : voice_->ask(*std::move(words));
  // What is said waits for the mutex, so the client's own speech still ends before it.
  if (taken.ok() && is_said && !is_busy) end_speech();
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

// One at a time: the session has the memory for one, and a client could queue any number.
void LiveSocket::begin_change(const LiveEvent& event) {
  if (changing_) return post(error_event(429, "busy", "a change is being made; wait for its answer"));
  services_.tasks.add([self = shared_from_this(), event] { self->change(event); });
  changing_ = true;
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

}  // namespace liveavatar::serve
