// Ctrl-C: once asks the job to stop, twice ends the process.
#pragma once

#include <stop_token>
#include <thread>
#include <vector>

#include "core/output_files.h"

namespace liveavatar::cli {

// While it lives, SIGINT, SIGTERM and SIGHUP set requested() and print a line at once; the second one ends the
// process with exit code 130. One at a time.
class StopSignal {
 public:
  // what: printed, says what happens now; a literal.
  explicit StopSignal(const char* what);
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  // While it lives, the second signal removes these outputs if nothing was written to them. They do not move.
  class Cleaning {
   public:
    explicit Cleaning(const std::vector<OutputClaim>& outputs);
    ~Cleaning();
    Cleaning(const Cleaning&) = delete;
    Cleaning& operator=(const Cleaning&) = delete;
  };
  static bool requested();
  // Stops the job as a signal does, and prints nothing from here on: the caller says why.
  void request_stop();
  // Of the signal that lives: asked to stop soon after the first Ctrl-C.
  static std::stop_token token();
  // Whether stderr stands inside a line, which is ended before anything is said.
  static void set_line_is_open(bool open);
  static bool line_is_open();
  // For how long the process stood still (Ctrl-Z, SIGSTOP), to half a second; 0 where no StopSignal has a thread.
  static double stood_still_s();

 private:
  // A handler may not ask for a stop itself: it writes to a pipe, and a thread does.
  void wait_for_signal();

  int pipe_[2] = {-1, -1};
  std::stop_source source_;
  std::thread waiter_;
};

}  // namespace liveavatar::cli
