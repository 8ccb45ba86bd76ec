#include "serve/whep_session.h"

#include <charconv>
#include <utility>

#include "core/boundary.h"
#include "core/text.h"
#include "serve/errors.h"
#include "serve/live_parts.h"

namespace liveavatar::serve {
namespace {

constexpr double kConnect_s = 15;
constexpr int kRetry_s = 10;
constexpr size_t kMostOfferBytes = 64 << 10;

// A number where it is one, so that a wrong one is told as in `start`.
nlohmann::json value_of(const std::string& text) {
  constexpr size_t kMostChars = 40;
  if (text.size() > kMostChars) return text;
  nlohmann::json number = nlohmann::json::parse(text, nullptr, false);
  if (number.is_number()) return number;
  return text;
}

http::Response failed(const Status& status, const std::string& path) {
  return error_response(http_status(status), code_name(status.code()),
                        without_path(status.message(), path, "the portrait"));
}

}  // namespace

Expected<LiveStart> parse_whep_query(const std::string& query) {
  nlohmann::json body = nlohmann::json::object();
  for (const char* name : {"portrait", "prompt", "size", "fit"})
    if (const std::string text = http::query_value(query, name); !text.empty()) body[name] = text;
  for (const char* name : {"seed", "sample_steps", "infer_frames", "sample_shift"})
    if (const std::string text = http::query_value(query, name); !text.empty()) body[name] = value_of(text);
  body["sample_rate"] = rtc::kSampleRate;
  body["microphone"] = true;
  LA_ASSIGN_OR_RETURN(LiveStart start, parse_live_start(body));
  if (!Portraits::is_name(start.portrait))
    return invalid_argument("portrait is the name of one that was PUT to /v1/portraits/NAME");
  return start;
}

WhepSession::WhepSession(const WhepServices& services, std::string id)
    : services_(services), id_(std::move(id)), counts_(services.live.metrics) {}

void WhepSession::begin(http::Request request, http::Reply reply) {
  services_.live.tasks.add([self = shared_from_this(), request = std::move(request), reply = std::move(reply)] {
    http::Response response = error_response(503, "cancelled", "the session was ended");
    const Status opened = contained("the offer", [&] {
      response = self->open(request);
      return Status();
    });
    if (!opened.ok()) response = error_response(opened);
    if (response.status != 201) self->end();
    reply(std::move(response));
  });
}

http::Response WhepSession::open(const http::Request& request) {
  if (std::lock_guard lock(mutex_); state_ == State::kEnded)
    return error_response(503, "cancelled", "the session was ended before it was opened");
  if (request.gone.stop_requested()) return error_response(503, "cancelled", "the client has gone");
  if (services_.live.draining) return busy_response("draining", "the server ends and takes no more work", kRetry_s);
  const std::string type(request.header("content-type"));
  if (lower_case(type.substr(0, type.find(';'))) != "application/sdp")
    return error_response(415, "unsupported", "the body must be application/sdp: what createOffer() gave");
  if (request.body.size() > kMostOfferBytes) return error_response(413, "too_large", "an offer has 64 KiB at most");
  const auto maker = services_.peers.maker();
  if (!maker.ok()) return error_response(501, "no_webrtc", maker.status().message());
  auto start = parse_whep_query(request.query);
  if (!start.ok()) return error_response(start.status());
  Status opened = open_session(*std::move(start));
  if (opened.ok()) opened = open_peer(**maker, request.body);
  std::lock_guard lock(mutex_);
  if (!opened.ok()) return failed(opened, portrait_ ? portrait_->path() : std::string());
  if (state_ == State::kEnded) return error_response(503, "cancelled", "the session was ended while it was opened");
  if (state_ == State::kOpening) state_ = State::kConnecting;
  since_ = Clock::now();
  http::Response response{.status = 201, .content_type = "application/sdp", .body = peer_->description()};
  response.headers.emplace_back("Location", "/v1/live/whep/" + id_);
  return response;
}

Status WhepSession::open_session(LiveStart start) {
  LA_ASSIGN_OR_RETURN(const Portrait portrait, services_.live.portraits.get(start.portrait));
  start.request.image = portrait.file->path();
  start.request.queue_seconds = services_.live.limits.queue_seconds;
  {
    std::lock_guard lock(mutex_);
    portrait_ = portrait.file;
  }
  const auto self = shared_from_this();
  const LiveCallbacks callbacks{[self](const LiveChunk& chunk) { return self->on_chunk(chunk); },
                                [self](const Status&) { self->end(); }};
  LA_ASSIGN_OR_RETURN(std::shared_ptr<LiveSession> session, services_.live.engine.open_live(start.request, callbacks));
  std::lock_guard lock(mutex_);
  session_ = std::move(session);
  return {};
}

// The peer's calls hold the session weakly: the session holds the peer.
Status WhepSession::open_peer(rtc::PeerMaker& maker, const std::string& sdp) {
  const std::weak_ptr<WhepSession> weak = weak_from_this();
  rtc::PeerCalls calls;
  calls.on_connected = [weak] {
    if (const auto self = weak.lock()) self->on_connected();
  };
  calls.on_microphone = [weak](std::span<const int16_t> samples) {
    if (const auto self = weak.lock()) self->on_microphone(samples);
  };
  calls.on_end = [weak](const std::string&) {
    if (const auto self = weak.lock()) self->end();
  };
  const rtc::Offer offer{sdp, session_->width(), session_->height()};
  LA_ASSIGN_OR_RETURN(std::shared_ptr<rtc::Peer> peer, maker.open(offer, services_.settings, std::move(calls)));
  std::lock_guard lock(mutex_);
  peer_ = std::move(peer);
  return {};
}

void WhepSession::on_connected() {
  std::lock_guard lock(mutex_);
  if (state_ != State::kOpening && state_ != State::kConnecting) return;
  state_ = State::kRunning;
  services_.live.metrics.session();
}

// A network that stalls brings a second at once, which would make the answer late for good: the queue stays short.
void WhepSession::on_microphone(std::span<const int16_t> samples) {
  constexpr int64_t kMost = rtc::kSampleRate * 3 / 2, kEnough = rtc::kSampleRate * 7 / 10;
  const int64_t queued = queued_samples_;
  if (queued > kMost) skipping_ = true;
  if (queued < kEnough) skipping_ = false;
  if (skipping_) return;
  std::shared_ptr<LiveSession> session;
  {
    std::lock_guard lock(mutex_);
    session = session_;
  }
  // A full queue loses the sound; an ended session is told by its own call.
  if (session) static_cast<void>(session->push(samples).ok());
}

bool WhepSession::on_chunk(const LiveChunk& chunk) {
  counts_.add(chunk);
  queued_samples_ = chunk.queued_samples;
  std::shared_ptr<rtc::Peer> peer;
  {
    std::lock_guard lock(mutex_);
    if (state_ == State::kEnded) return false;
    peer = peer_;
  }
  if (peer) peer->write(chunk);
  return true;
}

void WhepSession::check_time() {
  bool is_over = false;
  std::shared_ptr<rtc::Peer> peer;
  {
    std::lock_guard lock(mutex_);
    peer = peer_;
    is_over = (state_ == State::kConnecting && seconds_since(since_) > kConnect_s) ||
              seconds_since(opened_) > services_.live.limits.lifetime_s;
  }
  if (is_over || (peer && peer->is_silent())) end();
}

void WhepSession::end() {
  {
    std::lock_guard lock(mutex_);
    if (state_ == State::kEnded) return;
    state_ = State::kEnded;
  }
  release_.add_to(services_.live.tasks, shared_from_this());
}

// Behind the opening, on the same thread, so that all that was opened is here.
void WhepSession::release() {
  std::shared_ptr<LiveSession> session;
  std::shared_ptr<rtc::Peer> peer;
  {
    std::lock_guard lock(mutex_);
    session = std::move(session_);
    peer = std::move(peer_);
    portrait_.reset();
  }
  if (session) session->close();
  if (peer) peer->close();
  session.reset();
  peer.reset();
  gone_ = true;
  services_.live.turn.give_back_live();
}

}  // namespace liveavatar::serve
