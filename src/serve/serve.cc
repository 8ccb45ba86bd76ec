// From the start of the server to its end.
#include <condition_variable>
#include <mutex>

#include "core/boundary.h"
#include "serve/options.h"
#include "serve/service.h"

namespace liveavatar::serve {
namespace {

using Clock = std::chrono::steady_clock;

void wait_for(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait(lock, stop, [] { return false; });
}

// Work has ended, and clients have its last bytes.
void wait_until_idle(const Service& service, const http::Server& server, double seconds) {
  constexpr auto kStep = std::chrono::milliseconds(50);
  const Clock::time_point begin = Clock::now();
  while ((!service.is_idle() || server.answering() > 0) &&
         std::chrono::duration<double>(Clock::now() - begin).count() < seconds)
    std::this_thread::sleep_for(kStep);
}

// A chat or a transcription that nobody can use.
std::string idle_minds(const Minds& minds) {
  if (minds.can_converse() || (!minds.chat && !minds.transcription)) return {};
  return "no conversations: " + minds.no_conversation();
}

Status run(const ServeOptions& options, const ServeCalls& calls, const std::stop_token& stop) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<AccessLog> log, AccessLog::open(options.access_log, calls.on_log));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Service> service, Service::create(options, std::move(log)));
  if (const std::string note = idle_minds(service->minds()); !note.empty() && calls.on_note) calls.on_note(note);
  LA_ASSIGN_OR_RETURN(std::unique_ptr<http::Server> server, http::open_server(options.server, *service));
  service->set_server(*server);
  if (calls.on_listening) calls.on_listening(server->port());
  LA_ASSIGN_OR_RETURN(std::unique_ptr<EngineHost> engine, EngineHost::load(options.engine, stop));
  service->ready(std::move(engine));
  if (calls.on_ready) calls.on_ready();
  wait_for(stop);
  service->drain();
  wait_until_idle(*service, *server, options.drain_s);
  service->end_sessions();
  server->stop();
  return {};
}

}  // namespace

Status serve(const ServeOptions& options, const ServeCalls& calls, const std::stop_token& stop) {
  if (const std::string missing = http::missing_server(); !missing.empty()) return unsupported(missing);
  const Status status = contained("serve", [&] { return run(options, calls, stop); });
  const bool was_loading = status.code() == ErrorCode::kCancelled && stop.stop_requested();
  return was_loading ? Status() : status;
}

}  // namespace liveavatar::serve
