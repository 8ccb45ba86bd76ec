// What `liveavatar serve` can be told.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "core/status.h"
#include "liveavatar/liveavatar.h"
#include "serve/http/server.h"
#include "serve/minds.h"
#include "serve/rtc/peer.h"

namespace liveavatar::serve {

struct KeptPortrait {
  std::string name, path;
};

// A server that live sessions may be sent to (media/stream_address.h); the address may hold secrets.
struct PushTarget {
  std::string name, url;
};

// kAuto: as much as the system has; kOn: all, or the server does not start.
enum class SandboxMode { kAuto, kOn, kOff };

struct ServeOptions {
  http::ServerOptions server;
  EngineOptions engine;
  std::string api_key;                     // empty: none is asked for
  std::vector<std::string> cors_origins;   // web pages of others that may use the server; "*": all
  std::vector<std::string> allowed_hosts;  // names by which it is reached without a key, beside localhost
  std::string access_log;                  // a file; empty: standard error; "off"
  std::string work_dir;                    // uploads and videos lie in a folder made there; empty: the system's
  std::vector<KeptPortrait> portraits;     // kept by name from the start
  std::vector<PushTarget> push_targets;
  std::string whip_token;  // for those of WHIP; empty: none is sent
  int max_sessions = 4;
  double session_idle_s = 300;  // without a message of the client
  double session_lifetime_s = 3600;
  double slow_reader_s = 10;  // that a session waits for a client that does not read
  double queue_seconds = 60;  // LiveRequest's
  int max_queue = 32;         // jobs that wait
  int keep_videos = 100;      // jobs that have ended
  double drain_s = 30;
  rtc::PeerSettings webrtc;
  MindOptions minds;
  SandboxMode sandbox = SandboxMode::kAuto;
  std::string locked = "off";  // what lock_down() said, for /health
};

struct ServeCalls {
  std::function<void(int port)> on_listening;
  std::function<void()> on_ready;                        // the model is loaded
  std::function<void(const std::string& note)> on_note;  // of what was given and has no use; may be empty
  std::function<void(const std::string& line)> on_log;   // of the access log where it is standard error
};

// Loads the model and serves until stop, then lets running work end, drain_s at most. Calls come from its threads, one
// at a time of each kind.
Status serve(const ServeOptions& options, const ServeCalls& calls, const std::stop_token& stop);

}  // namespace liveavatar::serve
