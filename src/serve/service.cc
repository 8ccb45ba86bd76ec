// Admission and dispatch; service_routes.cc has what each route answers.
#include "serve/service.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>
#include <utility>

#include "core/boundary.h"
#include "core/json.h"
#include "core/memory_reserve.h"
#include "serve/errors.h"
#include "serve/openapi.h"
#include "serve/page.h"

namespace liveavatar::serve {
namespace {

constexpr int kRetrySoon = 2, kRetryJob = 10;

http::Response wrong_host() {
  return error_response(
      421, "host",
      "without a key this server is used by its address, localhost, or a name that was allowed at its start");
}

// Where even small things may fail soon, nothing new begins.
std::optional<http::Response> no_memory() {
  if (refill_memory_reserve()) return {};
  return busy_response("out_of_memory", "the server has no memory left; try again later", kRetryJob);
}

http::Response unknown_path() { return error_response(404, "not_found", "there is no such path; see /openapi.json"); }

}  // namespace

Expected<std::unique_ptr<Service>> Service::create(const ServeOptions& options, std::unique_ptr<AccessLog> log) {
  for (const std::string& origin : options.cors_origins) LA_RETURN_IF_ERROR(check_origin(origin));
  for (const std::string& name : options.allowed_hosts) LA_RETURN_IF_ERROR(check_host_name(name));
  for (const std::string& server : options.webrtc.ice_servers) LA_RETURN_IF_ERROR(rtc::check_ice_server(server));
  LA_ASSIGN_OR_RETURN(Minds minds, open_minds(options.minds));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<WorkFolder> folder, WorkFolder::create(options.work_dir));
  std::unique_ptr<Service> service(new Service(options, std::move(log), std::move(folder)));
  const auto log_push = [to = service->log_.get()](const auto&... entry) { to->write_push_error(entry...); };
  LA_ASSIGN_OR_RETURN(service->push_targets_, PushTargets::create(options.push_targets, log_push,
                                                                  {options.whip_token, options.webrtc.ice_servers}));
  service->minds_ = std::move(minds);
  if (service->minds_.voice) service->speech_ = std::make_unique<SpeechRequests>(service->minds_.voice);
  for (const KeptPortrait& kept : options.portraits) {
    const std::string where = "`portrait` " + kept.name + "=" + kept.path + ": ";
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(kept.path, ignored))
      return not_found(where + "there is no such file; check the path");
    std::ifstream file(kept.path, std::ios::binary);
    if (!file) return io_error(where + "cannot be read; see who may read it");
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    const auto put = service->portraits_.put(kept.name, bytes);
    if (!put.ok()) return Status(put.status().code(), where + put.status().message());
  }
  return service;
}

Service::Service(const ServeOptions& options, std::unique_ptr<AccessLog> log, std::unique_ptr<WorkFolder> folder)
    : options_(options),
      access_(options.api_key, options.cors_origins, options.allowed_hosts),
      log_(std::move(log)),
      folder_(std::move(folder)),
      portraits_(*folder_),
      turn_(options.max_sessions),
      whep_(options.webrtc),
      live_tasks_([this] { check_sockets(); }),
      whep_tasks_([this] { whep_.check_time(); }) {}

Service::~Service() = default;

void Service::ready(std::unique_ptr<EngineHost> engine) {
  engine_ = std::move(engine);
  const VideoLimits limits{options_.max_queue, options_.keep_videos};
  jobs_ = std::make_unique<VideoJobs>(*engine_, *folder_, turn_, metrics_, limits);
  phase_ = Phase::kReady;
}

void Service::drain() {
  const bool is_loaded = phase_.exchange(Phase::kDraining) != Phase::kLoading;
  draining_ = true;
  if (speech_) speech_->drain();
  if (is_loaded) jobs_->drain();
}

bool Service::is_idle() const { return turn_.sessions() == 0 && (!jobs_ || jobs_->is_idle()); }

void Service::check_sockets() {
  refill_memory_reserve();
  std::lock_guard lock(sockets_mutex_);
  std::erase_if(sockets_, [](const auto& socket) { return socket.expired(); });
  for (const auto& socket : sockets_)
    if (const auto alive = socket.lock()) alive->check_time();
}

void Service::end_sessions() {
  constexpr int kGoingAway = 1001;
  {
    std::lock_guard lock(sockets_mutex_);
    for (const auto& socket : sockets_)
      if (const auto alive = socket.lock()) alive->end(kGoingAway, 503, "draining", "the server ends");
  }
  whep_.end_all();
  constexpr std::chrono::milliseconds kMoment(2000), kStep(10);
  const auto deadline = std::chrono::steady_clock::now() + kMoment;
  while (turn_.sessions() > 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(kStep);
}

void Service::answered(const http::Exchange& exchange) {
  metrics_.request(exchange.status);
  log_->write(exchange);
}

std::optional<http::Response> Service::busy() const {
  switch (phase_.load()) {
    case Phase::kLoading:
      return busy_response("loading", "the model is being loaded; try again", kRetrySoon);
    case Phase::kDraining:
      return busy_response("draining", "the server ends and takes no more work", kRetryJob);
    case Phase::kReady:
      break;
  }
  return {};
}

// Before a body is read.
std::optional<http::Response> Service::refusal(const http::Request& head) const {
  if (!access_.is_host_allowed(head)) return wrong_host();
  const bool reads = head.method == "GET" || head.method == "HEAD";
  if (!reads && !access_.is_origin_allowed(head))
    return error_response(403, "origin", "this page's origin is not allowed; start the server with its CORS origin");
  if (head.method == "OPTIONS") {
    http::Headers cors;
    access_.add_cors(head, cors);
    if (!cors.empty()) return http::Response{.status = 204, .content_type = "text/plain"};
  }
  const RouteMatch match = match_route(head.method, head.path);
  const bool is_page = reads && find_page_file(head.path) != nullptr;
  const bool takes_body = !is_page && match.route != nullptr && match.route->body != RouteBody::kNone;
  const bool is_known = is_page || match.route != nullptr;
  if (is_known && !takes_body && head.announces_body())  // no memory for what nobody reads
    return error_response(400, "body", "this path takes no body; send none");
  if (is_page) return {};
  if (match.allowed.empty()) return unknown_path();
  if (match.route == nullptr) {
    http::Response response = error_response(405, "method", "this path takes " + match.allowed);
    response.headers.emplace_back("Allow", match.allowed);
    return response;
  }
  if (!match.route->is_open && !access_.has_key(head)) {
    http::Response response = error_response(401, "key", "send the server's key as Authorization: Bearer KEY");
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
    return response;
  }
  if (match.route->id == RouteId::kLive) {
    http::Response response = error_response(426, "upgrade", "this path is a WebSocket");
    response.headers.emplace_back("Upgrade", "websocket");
    return response;
  }
  const bool needs_engine =
      std::string_view(match.route->path).starts_with("/v1/videos") || match.route->id == RouteId::kModels;
  const bool is_loading = phase_ == Phase::kLoading && needs_engine;
  if (match.route->id == RouteId::kOpenWhep) return busy();
  if (is_loading || match.route->id == RouteId::kCreateVideo || match.route->id == RouteId::kPutPortrait) {
    const bool may_wait = match.route->id == RouteId::kPutPortrait && phase_ == Phase::kLoading;
    if (!may_wait) return busy();
  }
  return {};
}

http::Response Service::with_common(const http::Request& head, http::Response response) const {
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  response.headers.emplace_back("Cache-Control", "no-store");
  access_.add_cors(head, response.headers);
  return response;
}

std::optional<http::Response> Service::admit(const http::Request& head) {
  std::optional<http::Response> refused = refusal(head);
  if (!refused) refused = no_memory();
  if (!refused) return {};
  return with_common(head, *std::move(refused));
}

http::Upgrade Service::refused(const http::Request& head, http::Response response) const {
  return {with_common(head, std::move(response)), nullptr, {}};
}

std::optional<http::Response> Service::take_live() {
  switch (turn_.take_live()) {
    case DeviceTurn::Live::kFull:
      return busy_response("sessions",
                           "all " + std::to_string(turn_.max_sessions()) + " live sessions are taken; try again later",
                           kRetryJob);
    case DeviceTurn::Live::kJobRuns:
      return busy_response("job", "a job runs, which has the device for itself; try again later", kRetryJob);
    case DeviceTurn::Live::kTaken:
      break;
  }
  return {};
}

LiveServices Service::live_services(TaskQueue& tasks) {
  LiveLimits limits;
  limits.idle_s = options_.session_idle_s;
  limits.lifetime_s = options_.session_lifetime_s;
  limits.slow_reader_s = options_.slow_reader_s;
  limits.queue_seconds = options_.queue_seconds;
  return {*engine_, portraits_, turn_, metrics_, *push_targets_, tasks, draining_, limits, minds_};
}

http::Upgrade Service::upgrade(const http::Request& head) {
  if (!access_.is_host_allowed(head)) return refused(head, wrong_host());
  if (head.path != "/v1/live") return refused(head, unknown_path());
  if (!access_.is_origin_allowed(head))
    return refused(head, error_response(403, "origin", "this page's origin is not allowed"));
  if (!access_.has_key(head))
    return refused(head, error_response(401, "key",
                                        "send the key as Authorization: Bearer KEY, or the protocols " +
                                            std::string(kSocketProtocol) + " and bearer.KEY"));
  if (auto response = busy()) return refused(head, *std::move(response));
  if (auto response = no_memory()) return refused(head, *std::move(response));
  if (auto response = take_live()) return refused(head, *std::move(response));
  std::shared_ptr<LiveSocket> socket;
  try {
    socket = std::make_shared<LiveSocket>(live_services(live_tasks_));
  } catch (...) {
    turn_.give_back_live();
    throw;
  }
  std::lock_guard lock(sockets_mutex_);
  sockets_.push_back(socket);
  return {{}, std::move(socket), offers_protocol(head) ? kSocketProtocol : ""};
}

// Replies when there is sound.
void Service::speak(const http::Request& request, http::Reply reply) {
  const http::Request head{request.method, request.path, {}, request.peer, request.headers, {}};
  if (draining_) return reply(with_common(head, *busy()));
  if (!speech_) return reply(with_common(head, error_response(501, "no_speech", minds_.no_voice)));
  speech_->open(request,
                [this, head, reply](http::Response response) { reply(with_common(head, std::move(response))); });
}

void Service::handle(http::Request request, http::Reply reply) {
  const RouteMatch match = match_route(request.method, request.path);
  if (match.route != nullptr && match.route->id == RouteId::kSpeech) return speak(request, std::move(reply));
  if (match.route != nullptr && match.route->id == RouteId::kOpenWhep) {
    const http::Request head{request.method, request.path, {}, request.peer, request.headers, {}};
    std::optional<http::Response> refused = busy();
    if (!refused) refused = take_live();
    if (refused) return reply(with_common(head, *std::move(refused)));
    return whep_.open(live_services(whep_tasks_), std::move(request),
                      [this, head, reply](http::Response response) { reply(with_common(head, std::move(response))); });
  }
  const bool takes_time =
      match.route != nullptr && (match.route->id == RouteId::kCreateVideo || match.route->id == RouteId::kPutPortrait);
  auto work = [this, match, reply](const http::Request& head) {
    http::Response response = error_response(500, "internal", "no answer");
    const Status done = contained("the request", [&] {
      response = answer(match, head);
      return Status();
    });
    if (!done.ok()) response = error_response(done);
    if (head.method == "HEAD") response.stream.reset();
    reply(with_common(head, std::move(response)));
  };
  if (!takes_time) return work(request);
  const auto shared = std::make_shared<const http::Request>(std::move(request));
  uploads_.add([this, work, reply, shared] {
    if (shared->gone.stop_requested()) return;
    // The server may have begun to end while the body came, or while others were before it.
    auto refused = draining_ ? busy() : std::nullopt;
    if (refused) return reply(with_common(*shared, *std::move(refused)));
    work(*shared);
  });
}

http::Response Service::answer(const RouteMatch& match, const http::Request& request) {
  if (match.route == nullptr || match.route->id == RouteId::kPage) return page(request.path);
  auto parameter = [&](const char* name) { return match.parameters.at(name); };
  switch (match.route->id) {
    case RouteId::kHealth:
      return health();
    case RouteId::kMetrics:
      return metrics_text();
    case RouteId::kOpenApi:
      return {.body = openapi_json(minds_.voice != nullptr)};
    case RouteId::kModels:
      return models();
    case RouteId::kCreateVideo:
      return create_video(request);
    case RouteId::kListVideos:
      return list_videos();
    case RouteId::kGetVideo:
      return video(parameter("id"));
    case RouteId::kDeleteVideo:
      return delete_video(parameter("id"));
    case RouteId::kVideoEvents:
      return video_events(parameter("id"));
    case RouteId::kVideoContent:
      return video_content(parameter("id"), request);
    case RouteId::kListPortraits:
      return list_portraits();
    case RouteId::kPutPortrait:
      return put_portrait(parameter("name"), request);
    case RouteId::kGetPortrait:
      return get_portrait(parameter("name"));
    case RouteId::kDeletePortrait:
      return delete_portrait(parameter("name"));
    case RouteId::kEndWhep:
      return end_whep(parameter("id"));
    case RouteId::kPage:
    case RouteId::kLive:
    case RouteId::kOpenWhep:
    case RouteId::kSpeech:
      break;  // upgrade() and handle()
  }
  return unknown_path();
}

}  // namespace liveavatar::serve
