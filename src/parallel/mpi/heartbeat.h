// Signs of life between the lead and every other rank, on a communicator of their own, and what they bring: a failure,
// and the end of the run.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/mpi/verdict.h"

namespace liveavatar::mpi {

// A rank sends a beat, and the lead answers it at once: of each pair one beat is under way at most, and the lead sends
// nothing to a process that has gone, which Open MPI may answer by ending this one.
class Heartbeat {
 public:
  // What it works on outlives it. names: of each rank, as in "rank 2 (node7, cpu)".
  struct Parts {
    Mpi& mpi;
    Verdict& verdict;
    const Waits& waits;
    const std::atomic<const char*>& stage;  // of this rank
    std::vector<std::string> names;
    Group::Options options;
  };
  explicit Heartbeat(const Parts& parts);
  ~Heartbeat();  // the thread ends; nobody is told

  // Messages are under way: Open MPI moves them only while it is called, and this thread calls it more often then.
  void set_moving(bool moving) { moving_ += moving ? 1 : -1; }

  // After a failure: whether all know who can.
  bool failure_is_told() const { return told_ >= State::kFailed; }
  // This rank ends with this exit code. On the lead: its file is finished, so all may end; and whether they know.
  void leave(int exit_code) {
    exit_code_ = exit_code;
    leaving_ = true;
  }
  bool leaving_is_told() const { return told_ >= State::kLeft; }
  // The lead's code, when it has left.
  std::optional<int> lead_has_left() const { return lead_left_ ? std::optional<int>(lead_code_) : std::nullopt; }

  // A wait took too long: ends the group, and names the rank for which all others wait in the end. Returns when it has.
  void judge(const Waits::Wait& late);
  // Waits until every rank is here, or a failure.
  void meet();
  // Waits a moment for a sign of life of every rank; one that gives none is a failure.
  void roll_call();
  // Seconds since SIGCONT came to this process, which had not been stopped: mpirun ends all. Infinite if it has not
  // come.
  double launcher_signal_ago() const;
  // This process was stopped a moment ago: a signal of the launcher may be for itself.
  bool was_stopped() const;

 private:
  enum State : int { kLives, kDone, kFailed, kLeft };
  struct Beat {
    int state = kLives, code = 0, gone = kNobody;  // code: of the failure
    int exit_code = 0;
    bool waits = false, is_late = false;  // for something; and for too long
    Waits::Wait wait;
    char text[1000] = "";
  };
  struct Peer {
    int rank = 0;
    Clock::time_point sign = Clock::now(), sent = Clock::now();
    MPI_Request in = MPI_REQUEST_NULL, out = MPI_REQUEST_NULL;
    Beat inbox, outbox;               // inbox: others' calls of MPI write it; what it said is below
    bool owed = false;                // the lead owes an answer
    int said = kLives;                // what it said last
    bool is_late = false;             // it waits for too long
    std::optional<Waits::Wait> wait;  // for this
    int told = kLives;                // what it knows of this rank
  };

  void run();
  void beat(Clock::duration gap);  // gap: since the last one
  void answer(Peer& peer);         // on the lead
  void ask(Peer& peer);            // on the others
  void receive(Peer& peer);
  void send(Peer& peer);
  std::optional<Waits::Wait> late() const;
  static bool ended(MPI_Request& request);
  void hear(Peer& peer);
  State own_state() const;
  void note_progress();
  void skip_gap(Clock::duration gap);
  void look_for_silence();
  void look_at_roll();
  void look_at_waits();
  std::optional<Waits::Wait> wait_of(int rank) const;
  Status blame(const Waits::Wait& late) const;
  bool is_lead() const { return parts_.mpi.rank() == 0; }
  bool is_over(const Peer& peer) const;  // needs no more signs

  Parts parts_;
  std::vector<Peer> peers_;  // of the thread alone
  std::atomic<int> moving_ = 0;
  std::atomic<bool> done_ = false, all_done_ = false, leaving_ = false, lead_left_ = false, stop_ = false;
  std::atomic<int> told_ = kLives;  // what all know that live
  std::atomic<int> exit_code_ = 0, lead_code_ = 0;
  std::atomic<bool> roll_wanted_ = false;
  mutable std::mutex late_mutex_;
  std::optional<Waits::Wait> late_;  // of this rank
  std::atomic<Clock::time_point> signal_at_ = Clock::time_point();
  bool roll_is_called_ = false;
  Clock::time_point roll_began_;
  int continues_ = 0;
  std::atomic<Clock::time_point> resumed_at_ = Clock::time_point();  // long ago, if it never was stopped
  std::thread thread_;
};

}  // namespace liveavatar::mpi
