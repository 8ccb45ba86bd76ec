#include "cli/stop_signal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "core/clock.h"
#include "core/system_calls.h"

namespace liveavatar::cli {
namespace {

constexpr int kStopped = 130;
std::atomic<int> g_requests{0};
std::atomic<bool> g_silent{false};
std::atomic<const char*> g_what{nullptr};
std::atomic<bool> g_line_is_open{false};
std::atomic<const std::vector<OutputClaim>*> g_outputs{nullptr};
std::atomic<int> g_pipe{-1};
std::atomic<double> g_stood_still_s{0};
std::stop_token g_token;

// Only what a handler may call: other threads hold locks while it runs.
void say(const char* text) { [[maybe_unused]] ssize_t put = ::write(STDERR_FILENO, text, std::strlen(text)); }

void on_stop(int) {
  int error = errno;
  if (g_requests.fetch_add(1) > 0) {
    const std::vector<OutputClaim>* outputs = g_outputs;
    for (size_t i = 0; outputs != nullptr && i < outputs->size(); ++i) (*outputs)[i].remove_unused();
    ::_exit(kStopped);
  }
  if (!g_silent) {
    if (g_line_is_open) say("\n");
    say("liveavatar: stopping: ");
    say(g_what);
    say("; Ctrl-C again ends it at once\n");
  }
  [[maybe_unused]] ssize_t put = ::write(g_pipe, "s", 1);
  errno = error;
}

void handle(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
}

}  // namespace

StopSignal::StopSignal(const char* what) {
  g_requests = 0;
  g_silent = false;
  g_what = what;
  g_token = source_.get_token();
  if (::pipe2(pipe_, O_CLOEXEC) == 0) {
    g_pipe = pipe_[1];
    try {
      waiter_ = std::thread([this] { wait_for_signal(); });
    } catch (const std::system_error&) {
      // Without a thread to give: requested() still tells.
    }
  }
  handle(on_stop);
}

// A tick that comes much too late: the process did not run meanwhile.
void StopSignal::wait_for_signal() {
  constexpr double kTick_s = 0.5, kLate_s = 1.5;
  pollfd input{pipe_[0], POLLIN, 0};
  int ready = 0;
  while (ready == 0) {
    const auto begin = std::chrono::steady_clock::now();
    ready = retry_interrupted([&] { return ::poll(&input, 1, static_cast<int>(kTick_s * 1000)); });
    const double late_s = seconds_since(begin) - kTick_s;
    if (late_s > kLate_s) g_stood_still_s = g_stood_still_s + late_s;
  }
  char what = 0;
  const ssize_t got = retry_interrupted([&] { return ::read(pipe_[0], &what, 1); });
  if (got == 1 && what == 's') source_.request_stop();
}

StopSignal::~StopSignal() {
  handle(SIG_DFL);
  g_outputs = nullptr;
  g_pipe = -1;
  g_token = {};
  if (pipe_[1] >= 0) ::close(pipe_[1]);
  if (waiter_.joinable()) waiter_.join();
  if (pipe_[0] >= 0) ::close(pipe_[0]);
}

StopSignal::Cleaning::Cleaning(const std::vector<OutputClaim>& outputs) { g_outputs = &outputs; }
StopSignal::Cleaning::~Cleaning() { g_outputs = nullptr; }

void StopSignal::set_line_is_open(bool open) { g_line_is_open = open; }

bool StopSignal::line_is_open() { return g_line_is_open; }

double StopSignal::stood_still_s() { return g_stood_still_s; }

void StopSignal::request_stop() {
  g_silent = true;
  source_.request_stop();
}

bool StopSignal::requested() { return g_requests > 0; }

std::stop_token StopSignal::token() { return g_token; }

}  // namespace liveavatar::cli
