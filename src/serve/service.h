// What the server does with requests.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/access.h"
#include "serve/access_log.h"
#include "serve/live_socket.h"
#include "serve/minds.h"
#include "serve/options.h"
#include "serve/routes.h"
#include "serve/speech_requests.h"
#include "serve/video_jobs.h"
#include "serve/whep_sessions.h"

namespace liveavatar::serve {

// Handler's calls are the I/O thread's; the others come from the thread that runs the server.
class Service final : public http::Handler {
 public:
  static Expected<std::unique_ptr<Service>> create(const ServeOptions& options, std::unique_ptr<AccessLog> log);
  ~Service() override;

  void set_server(const http::Server& server) { server_ = &server; }
  void ready(std::unique_ptr<EngineHost> engine);
  // No new work; what runs goes on.
  void drain();
  bool is_idle() const;
  const Minds& minds() const { return minds_; }
  // Ends all sessions; waits for them a moment.
  void end_sessions();

  std::optional<http::Response> admit(const http::Request& head) override;
  void handle(http::Request request, http::Reply reply) override;
  http::Upgrade upgrade(const http::Request& head) override;
  void answered(const http::Exchange& exchange) override;

 private:
  enum class Phase { kLoading, kReady, kDraining };
  Service(const ServeOptions& options, std::unique_ptr<AccessLog> log, std::unique_ptr<WorkFolder> folder);
  std::optional<http::Response> refusal(const http::Request& head) const;
  std::optional<http::Response> busy() const;  // where no work is taken
  http::Upgrade refused(const http::Request& head, http::Response response) const;
  http::Response with_common(const http::Request& head, http::Response response) const;
  http::Response answer(const RouteMatch& match, const http::Request& request);

  http::Response page(const std::string& path) const;
  http::Response health() const;
  http::Response metrics_text() const;
  http::Response models() const;
  http::Response create_video(const http::Request& request);
  Expected<VideoView> add_video(const http::Request& request);
  http::Response list_videos() const;
  http::Response video(const std::string& id) const;
  http::Response delete_video(const std::string& id);
  http::Response video_events(const std::string& id) const;
  http::Response video_content(const std::string& id, const http::Request& request) const;
  http::Response list_portraits() const;
  http::Response put_portrait(const std::string& name, const http::Request& request);
  http::Response get_portrait(const std::string& name) const;
  http::Response delete_portrait(const std::string& name);
  http::Response end_whep(const std::string& id);
  void check_sockets();
  // A place for one more live session, or why there is none.
  std::optional<http::Response> take_live();
  LiveServices live_services(TaskQueue& tasks);
  void speak(const http::Request& request, http::Reply reply);

  const ServeOptions options_;
  const Access access_;
  const std::unique_ptr<AccessLog> log_;
  const std::unique_ptr<WorkFolder> folder_;
  Portraits portraits_;
  std::unique_ptr<PushTargets> push_targets_;  // set by create()
  Minds minds_;
  std::unique_ptr<SpeechRequests> speech_;  // null: without a voice
  DeviceTurn turn_;
  Metrics metrics_;
  std::atomic<const http::Server*> server_ = nullptr;  // set while the I/O thread serves already
  std::atomic<Phase> phase_ = Phase::kLoading;
  std::atomic<bool> draining_ = false;  // what sessions see of the phase
  // Set before the phase leaves kLoading.
  std::unique_ptr<EngineHost> engine_;
  std::unique_ptr<VideoJobs> jobs_;
  std::mutex sockets_mutex_;
  std::vector<std::weak_ptr<LiveSocket>> sockets_;
  WhepSessions whep_;
  TaskQueue uploads_, live_tasks_, whep_tasks_;  // last: they use all of the above
};

}  // namespace liveavatar::serve
