// `liveavatar serve`: live sessions and a queue of jobs over HTTP and WebSocket (docs/serve.md).
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <sstream>

#include "cli/commands.h"
#include "cli/embedded.h"
#include "cli/field_flags.h"
#include "cli/flags.h"
#include "cli/mind_flags.h"
#include "cli/model_flags.h"
#include "cli/standard_streams.h"
#include "cli/stop_signal.h"
#include "cli/whip_flags.h"
#include "core/line_output.h"
#include "core/memory_reserve.h"
#include "core/status.h"
#include "ops/make_backend.h"
#include "serve/exposure.h"
#include "serve/lock_down.h"
#include "serve/options.h"
#include "serve/portraits.h"

namespace liveavatar::cli {
namespace {

struct Flags {
  serve::ServeOptions serve;
  MindFlags minds;
  const CLI::Option* key_option = nullptr;  // --api_key
  std::string api_key_file;
  std::vector<std::string> portraits;  // NAME=FILE
  std::vector<std::string> pushes;     // NAME=URL, several between spaces too
  std::string whip_token_file;
  size_t max_body_bytes = 64 << 20;
  bool fp8 = false, quiet = false, no_key = false;
};

constexpr const char* kFooter =
    "Examples:\n"
    "  liveavatar serve                          the mini model, at http://127.0.0.1:8080\n"
    "  liveavatar serve --ckpt_dir ckpt/Wan2.2-S2V-14B --lora_path_dmd ckpt/Live-Avatar --device cuda \\\n"
    "    --host 0.0.0.0 --api_key_file /etc/liveavatar/key --max_sessions 2\n"
    "Every flag is also read from the environment: --max_sessions from LIVEAVATAR_MAX_SESSIONS. A flag counts first.\n"
    "docs/serve.md has the interface; /openapi.json too. SIGTERM lets running work end.";

constexpr const char *kWho = "Who may use it", *kLimits = "Limits", *kModel = "Model and machine";

void add_listening(CLI::App& app, Flags& f) {
  http::ServerOptions& o = f.serve.server;
  app.add_option("--host", o.host, "The address to listen at; 0.0.0.0: all of this machine")->capture_default_str();
  app.add_option("--port", o.port, "0: any that is free; it is printed")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--tls_cert", o.tls_certificate_file, "HTTPS: the certificate and its chain, PEM");
  app.add_option("--tls_key", o.tls_key_file, "HTTPS: the certificate's key, PEM, without a password");
  app.add_option("--portrait", f.portraits, "NAME=FILE: a portrait that is kept by name; may be given several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
  app.add_option(
         "--push", f.pushes,
         "NAME=URL: a server (rtmp://HOST/APP/KEY, rtmps://..., srt://HOST:PORT, whip+https://HOST/PATH) that live\n"
         "sessions may name, to be sent there too; several times. Others see it in the list of processes; better\n"
         "LIVEAVATAR_PUSH")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
  add_whip_token(app, f.whip_token_file);
  app.add_option("--work_dir", f.serve.work_dir, "Where the folder for uploads and videos is made (default: $TMPDIR)");
  app.add_option("--access_log", f.serve.access_log,
                 "File for a JSON line a request (default: standard error); off: none");
  const std::map<std::string, serve::SandboxMode> modes{
      {"auto", serve::SandboxMode::kAuto}, {"on", serve::SandboxMode::kOn}, {"off", serve::SandboxMode::kOff}};
  app.add_option("--sandbox", f.serve.sandbox,
                 "Give up files (Landlock) and system calls (seccomp) that a server does not need. auto: what this\n"
                 "system has of it; on: both, or it does not start")
      ->transform(CLI::CheckedTransformer(modes))
      ->default_str("auto");
  app.add_flag("--quiet", f.quiet, "Print errors only, and the access log");
}

void add_access(CLI::App& app, Flags& f) {
  f.key_option = app.add_option("--api_key", f.serve.api_key,
                                "Clients must send it: Authorization: Bearer KEY. Others see it in the\n"
                                "list of processes; better LIVEAVATAR_API_KEY or a file")
                     ->group(kWho);
  app.add_option("--api_key_file", f.api_key_file, "The file's first line is the key")->group(kWho);
  app.add_flag("--no_key", f.no_key, "Listen at a --host other than this machine's own without a key")->group(kWho);
  app.add_option("--allow_host", f.serve.allowed_hosts,
                 "Without a key: a name by which this server is reached, beside its addresses and localhost;\n"
                 "several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false)
      ->group(kWho);
  app.add_option("--cors_origin", f.serve.cors_origins,
                 "Web pages of this origin (https://example.org) may use the server; \"*\": all; several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false)
      ->group(kWho);
}

void add_seconds(CLI::App& app, const std::string& flag, double& value, const std::string& help) {
  app.add_option(flag, value, help)->check(CLI::Range(0.1, 31536000.0))->capture_default_str()->group(kLimits);
}

void add_limits(CLI::App& app, Flags& f) {
  serve::ServeOptions& o = f.serve;
  auto add_count = [&](const char* flag, int& value, const char* help, int least) {
    app.add_option(flag, value, help)->check(CLI::Range(least, 100000))->capture_default_str()->group(kLimits);
  };
  add_count("--max_sessions", o.max_sessions, "Live sessions at once", 0);
  add_count("--max_queue", o.max_queue, "Jobs that wait", 1);
  add_count("--keep_videos", o.keep_videos, "Jobs that have ended and are still known, with their videos", 0);
  add_count("--max_connections", o.server.max_connections, "Connections at once", 1);
  add_count("--max_connections_per_client", o.server.max_connections_per_client, "Of them, from one address", 1);
  add_memory(app, "--max_body", f.max_body_bytes, "The largest upload (default: 64MiB)")->group(kLimits);
  add_memory(app, "--send_queue", f.serve.server.send_queue_bytes,
             "What may wait for a session's client before the session does (default: 8MiB)")
      ->group(kLimits);
  add_seconds(app, "--session_idle_s", o.session_idle_s, "A session ends when its client is silent so long");
  add_seconds(app, "--session_lifetime_s", o.session_lifetime_s, "A session's longest time");
  add_seconds(app, "--slow_reader_s", o.slow_reader_s, "A session waits so long for a client that does not read");
  app.add_option("--queue_seconds", o.queue_seconds, "Pushed sound that may wait in a session")
      ->check(CLI::Range(1.0, 600.0))
      ->capture_default_str()
      ->group(kLimits);
  add_seconds(app, "--header_timeout_s", o.server.header_timeout_s, "For the head of a request");
  add_seconds(app, "--read_timeout_s", o.server.read_timeout_s, "A body may be so late behind 64 KiB a second");
  add_seconds(app, "--write_timeout_s", o.server.write_timeout_s, "For each piece of a response");
  add_seconds(app, "--drain_s", o.drain_s, "After SIGTERM running work has so long");
}

void add_webrtc(CLI::App& app, Flags& f) {
  constexpr const char* kWebRtc = "WebRTC";
  app.add_option("--ice_server", f.serve.webrtc.ice_servers,
                 "stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT, by which peers behind routers are reached;\n"
                 "several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false)
      ->group(kWebRtc);
  app.add_option("--webrtc_address", f.serve.webrtc.address,
                 "The address of this machine that peers are told (default: --host, or all where that is all)")
      ->group(kWebRtc);
}

void add_machine(CLI::App& app, Flags& f) {
  EngineOptions& e = f.serve.engine;
  add_model_flags(app, e, kModel);
  app.add_option("--device", e.device, "cpu; cuda or cuda:1, an NVIDIA card; or reference (slow plain loops)")
      ->capture_default_str()
      ->group(kModel);
  add_dtype(app, e.dtype)->group(kModel);
  add_weights_dtype(app, e.weights_dtype)->group(kModel);
  add_kv_dtype(app, e.kv_dtype)->group(kModel);
  add_activations_dtype(app, e.int8_products)->group(kModel);
  add_tune(app, e.tune)->group(kModel);
  app.add_flag("--fp8", f.fp8, "The original's name for --weights_dtype fp8")->group(kModel);
  add_threads(app, e.threads)->group(kModel);
  add_decode_flags(app, e, kModel);
  add_cache_memory(app, e.cache_bytes)->group(kModel);
  add_memory(app, "--memory_budget", e.memory_budget_bytes, "Most memory of all sessions and jobs, e.g. 8GiB")
      ->group(kModel);
  add_memory(app, "--host_budget", e.host_budget_bytes, "Most host memory beside a card")->group(kModel);
  app.add_option("--paging_dir", e.paging_dir, "Folder on disk for what does not fit into --memory_budget")
      ->group(kModel);
}

// For a Service named "liveavatar" Kubernetes sets LIVEAVATAR_PORT to tcp://10.0.0.1:8080.
bool is_of_kubernetes(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value != nullptr && std::string_view(value).starts_with("tcp://");
}

// "--max_sessions" is LIVEAVATAR_MAX_SESSIONS.
void add_environment(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_lnames().empty() || option->get_lnames().front() == "help") continue;
    std::string name = "LIVEAVATAR_" + option->get_lnames().front();
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
    if (!is_of_kubernetes(name)) option->envname(name);
  }
}

// A secret that is not there must not open the server.
Status check_no_empty_key(const Flags& f) {
  if (!f.serve.api_key.empty()) return {};
  if (f.key_option->count() > 0) return invalid_argument("--api_key is empty: give a key, or leave it out");
  const char* value = std::getenv("LIVEAVATAR_API_KEY");
  if (value == nullptr || *value != '\0') return {};
  return invalid_argument("LIVEAVATAR_API_KEY is empty: put a key into it, or unset it");
}

Status check_reach(const Flags& f) {
  const http::ServerOptions& o = f.serve.server;
  if (f.no_key || !f.serve.api_key.empty() || serve::is_local_only(o)) return {};
  const std::string where = o.listen_fd >= 0 ? "the service manager's socket" : "--host " + o.host;
  return invalid_argument(where +
                          " without a key: anybody who reaches the port could use the server; give --api_key_file "
                          "FILE, or --no_key if that is meant");
}

Status read_key(Flags& f) {
  LA_RETURN_IF_ERROR(check_no_empty_key(f));
  if (f.api_key_file.empty()) return {};
  if (!f.serve.api_key.empty()) return invalid_argument("--api_key and --api_key_file: give one of them");
  LA_ASSIGN_OR_RETURN(f.serve.api_key, key_of_file("--api_key_file", f.api_key_file));
  return {};
}

Status add_portraits(Flags& f) {
  for (const std::string& text : f.portraits) {
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    if (equals == std::string::npos || !serve::Portraits::is_name(name))
      return invalid_argument("--portrait " + text +
                              ": write NAME=FILE, with letters, digits, \"-\" and \"_\" as NAME");
    f.serve.portraits.push_back({name, text.substr(equals + 1)});
  }
  if (!f.portraits.empty()) return {};
  if (auto demo = embedded_path("assets/demo/portrait.png"); demo.ok()) f.serve.portraits.push_back({"demo", *demo});
  return {};
}

// The environment has one text for all of them, with spaces between.
Status add_pushes(Flags& f) {
  for (const std::string& texts : f.pushes) {
    std::istringstream words(texts);
    for (std::string text; words >> text;) {
      const size_t equals = text.find('=');
      const std::string name = text.substr(0, equals);
      if (equals == std::string::npos || !serve::Portraits::is_name(name))
        return invalid_argument("--push: write NAME=URL, with letters, digits, \"-\" and \"_\" as NAME");
      f.serve.push_targets.push_back({name, text.substr(equals + 1)});
    }
  }
  return {};
}

// A socket that systemd opened (sd_listen_fds): the first one, which is descriptor 3. -1: there is none.
int passed_socket() {
  auto number = [](const char* name) {
    const char* text = std::getenv(name);
    long value = 0;
    if (text != nullptr) std::from_chars(text, text + std::char_traits<char>::length(text), value);
    return value;
  };
  constexpr int kFirst = 3;
  const bool is_ours = number("LISTEN_PID") == static_cast<long>(::getpid()) && number("LISTEN_FDS") >= 1;
  return is_ours ? kFirst : -1;
}

Status check_tls(const http::ServerOptions& o) {
  if (o.tls_certificate_file.empty() == o.tls_key_file.empty()) return {};
  return invalid_argument("--tls_cert and --tls_key: give both, or none");
}

Status resolve(Flags& f) {
  LA_RETURN_IF_ERROR(read_key(f));
  LA_RETURN_IF_ERROR(check_tls(f.serve.server));
  LA_RETURN_IF_ERROR(add_portraits(f));
  LA_RETURN_IF_ERROR(add_pushes(f));
  const auto& targets = f.serve.push_targets;
  const bool whip = std::any_of(targets.begin(), targets.end(), [](const auto& target) { return is_whip(target.url); });
  LA_ASSIGN_OR_RETURN(f.serve.whip_token, read_whip_token(f.whip_token_file, whip));
  LA_RETURN_IF_ERROR(resolve_minds(f.minds, f.serve.minds));
  LA_RETURN_IF_ERROR(resolve_fp8(f.fp8, f.serve.engine.weights_dtype));
  f.serve.server.max_body_bytes = f.max_body_bytes;
  f.serve.server.listen_fd = passed_socket();
  LA_RETURN_IF_ERROR(check_reach(f));
  const std::string& host = f.serve.server.host;
  const bool is_all = host == "0.0.0.0" || host == "::" || f.serve.server.listen_fd >= 0;
  if (f.serve.webrtc.address.empty() && !is_all) f.serve.webrtc.address = host;
  LA_RETURN_IF_ERROR(find_local_files(f.serve.engine));
  if (names_model(f.serve.engine)) return {};
  if (!f.quiet)
    std::fprintf(stderr, "note: no --ckpt_dir: the mini model of cartoon faces that comes with the program\n");
  return use_embedded_model(f.serve.engine);
}

// Before any thread is made, that of the signals too.
Status lock_down(Flags& f) {
  LA_ASSIGN_OR_RETURN(const serve::Lockdown lock, serve::lock_down(f.serve));
  f.serve.locked = lock.state;
  if (!lock.note.empty()) std::fprintf(stderr, "note: %s\n", one_line(lock.note).c_str());
  return {};
}

int run_serve(Flags& f) {
  keep_memory_reserve(OnLack::kRetry);
  if (const Status resolved = resolve(f); !resolved.ok()) return report(resolved);
  if (const Status locked = lock_down(f); !locked.ok()) return report(locked);
  StopSignal stop("running work ends first");
  serve::ServeCalls calls;
  calls.on_listening = [&](int port) {
    if (!has_standard_output()) return;
    const std::string host =
        f.serve.server.host.find(':') == std::string::npos ? f.serve.server.host : "[" + f.serve.server.host + "]";
    const char* scheme = f.serve.server.tls_certificate_file.empty() ? "http" : "https";
    std::printf("%s://%s:%d\n", scheme, host.c_str(), port);
    std::fflush(stdout);
  };
  calls.on_ready = [&] {
    if (!f.quiet) std::fprintf(stderr, "ready\n");
  };
  calls.on_note = [&](const std::string& note) {
    if (!f.quiet) std::fprintf(stderr, "note: %s\n", in_flags(note).c_str());
  };
  calls.on_log = [](const std::string& line) { put_line(STDERR_FILENO, line); };
  const Status status = serve::serve(f.serve, calls, StopSignal::token());
  return status.ok() ? 0 : report(status);
}

}  // namespace

Command add_serve(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("serve", "Live sessions and a queue of jobs over HTTP and WebSocket");
  command->footer(kFooter);
  command->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add_listening(*command, *flags);
  add_access(*command, *flags);
  add_limits(*command, *flags);
  add_webrtc(*command, *flags);
  add_mind_flags(*command, flags->minds);
  add_machine(*command, *flags);
  add_environment(*command);
  return [flags] { return run_serve(*flags); };
}

}  // namespace liveavatar::cli
