#include "parallel/mpi/heartbeat.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/boundary.h"
#include "parallel/mpi/process_end.h"

namespace liveavatar::mpi {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr int kTag = 0;
constexpr double kPeriod_s = 0.25, kPeriodOfFailure_s = 0.05;
// A rank that has shown no sign for so long after the launcher's signal is gone. The others ask the lead, whose answer
// names who is: they wait longer.
constexpr double kRollOfLead_s = 0.6, kRoll_s = 0.9;
// This process did not run: it was stopped, or its machine was.
constexpr milliseconds kGap{500};
constexpr double kAfterStop_s = 4;

std::string whole_seconds(double seconds) { return std::to_string(static_cast<int64_t>(seconds)) + " s"; }

}  // namespace

Heartbeat::Heartbeat(const Parts& parts) : parts_(parts), continues_(count_continues()) {
  const int first = is_lead() ? 1 : 0, end = is_lead() ? parts_.mpi.size() : 1;
  for (int rank = first; rank < end; ++rank) peers_.emplace_back().rank = rank;
  if (is_lead())
    for (Peer& peer : peers_) receive(peer);  // peers_ does not move any more
  thread_ = std::thread([this] { run(); });
}

Heartbeat::~Heartbeat() {
  stop_ = true;
  thread_.join();
  parts_.mpi.call([&] {
    for (Peer& peer : peers_) {
      if (peer.in == MPI_REQUEST_NULL) continue;
      MPI_Cancel(&peer.in);
      MPI_Request_free(&peer.in);
    }
  });
}

void Heartbeat::run() {
  const std::string where = parts_.names[static_cast<size_t>(parts_.mpi.rank())] + ": signs of life";
  Clock::time_point before = Clock::now();
  while (!stop_) {
    std::this_thread::sleep_for(moving_ > 0 ? microseconds(500) : microseconds(20000));
    const Clock::time_point now = Clock::now();
    const Clock::duration gap = now - before;
    before = now;
    // The thread goes on after a failure: it tells the others.
    const Status done = contained(where, [&] {
      beat(gap);
      return Status();
    });
    if (!done.ok()) parts_.verdict.fail(done);
  }
}

void Heartbeat::beat(Clock::duration gap) {
  skip_gap(gap);
  parts_.mpi.call([&] {
    for (Peer& peer : peers_) {
      if (is_lead()) {
        answer(peer);
      } else {
        ask(peer);
      }
    }
  });
  note_progress();
  look_for_silence();
  look_at_roll();
  look_at_waits();
}

// Time in which this process did not run says nothing about the others.
void Heartbeat::skip_gap(Clock::duration gap) {
  const int continues = count_continues();
  if (gap > kGap) {
    resumed_at_ = Clock::now();
    for (Peer& peer : peers_) peer.sign += gap;
  }
  // The launcher may have continued it to end all, and does so more than once.
  if (continues != continues_ && !was_stopped()) {
    signal_at_ = Clock::now();
    roll_wanted_ = true;
  }
  continues_ = continues;
}

bool Heartbeat::ended(MPI_Request& request) {
  int flag = 0;
  if (request != MPI_REQUEST_NULL) MPI_Test(&request, &flag, MPI_STATUS_IGNORE);
  return flag != 0;
}

void Heartbeat::receive(Peer& peer) {
  MPI_Irecv(&peer.inbox, sizeof(Beat), MPI_BYTE, peer.rank, kTag, parts_.mpi.beats(), &peer.in);
}

void Heartbeat::send(Peer& peer) {
  Beat& beat = peer.outbox;
  beat = Beat();
  beat.state = own_state();
  beat.exit_code = exit_code_;
  if (beat.state >= kFailed) {
    const Status why = parts_.verdict.status();
    beat.code = static_cast<int>(why.code());
    beat.gone = parts_.verdict.gone();
    std::strncpy(beat.text, why.message().c_str(), sizeof(beat.text) - 1);
  }
  const std::optional<Waits::Wait> too_long = late(), wait = too_long ? too_long : wait_of(parts_.mpi.rank());
  beat.is_late = too_long.has_value();
  beat.waits = wait.has_value();
  beat.wait = wait.value_or(Waits::Wait());
  MPI_Isend(&beat, sizeof(Beat), MPI_BYTE, peer.rank, kTag, parts_.mpi.beats(), &peer.out);
  peer.sent = Clock::now();
}

void Heartbeat::answer(Peer& peer) {
  if (ended(peer.out)) peer.told = peer.outbox.state;
  if (ended(peer.in)) {
    hear(peer);
    receive(peer);
    peer.owed = true;
  }
  if (peer.owed && peer.out == MPI_REQUEST_NULL) {
    send(peer);
    peer.owed = false;
  }
}

void Heartbeat::ask(Peer& peer) {
  ended(peer.out);
  if (ended(peer.in)) {
    peer.told = peer.outbox.state;
    hear(peer);
  }
  if (peer.in != MPI_REQUEST_NULL || peer.out != MPI_REQUEST_NULL || is_over(peer)) return;
  const double period_s = parts_.verdict.failed() ? kPeriodOfFailure_s : kPeriod_s;
  const bool has_news =
      own_state() > peer.told || (late() && !peer.outbox.is_late) || (roll_is_called_ && peer.sent < roll_began_);
  if (!has_news && seconds_since(peer.sent) < period_s) return;
  send(peer);  // first: where it throws, the next beat asks again
  receive(peer);
}

void Heartbeat::hear(Peer& peer) {
  Beat& beat = peer.inbox;
  peer.sign = Clock::now();
  peer.said = beat.state;
  peer.is_late = beat.is_late;
  peer.wait.reset();
  if (beat.waits) peer.wait = beat.wait;
  beat.text[sizeof(beat.text) - 1] = '\0';
  if (beat.state >= kFailed) parts_.verdict.fail({static_cast<ErrorCode>(beat.code), beat.text}, beat.gone);
  if (!is_lead() && beat.state == kLeft) {
    lead_code_ = beat.exit_code;
    lead_left_ = true;
  }
  if (!is_lead() && beat.state == kDone) all_done_ = true;
}

Heartbeat::State Heartbeat::own_state() const {
  if (parts_.verdict.failed()) return leaving_ ? kLeft : kFailed;
  if (!done_) return kLives;
  const bool others_are = std::all_of(peers_.begin(), peers_.end(), [](const Peer& p) { return p.said >= kDone; });
  return is_lead() && !others_are ? kLives : kDone;
}

void Heartbeat::note_progress() {
  int told = kLeft;
  for (const Peer& peer : peers_)
    if (peer.rank != parts_.verdict.gone()) told = std::min(told, peer.told);
  told_ = told;
  if (is_lead() && told >= kDone) all_done_ = true;
  if (is_lead() && peers_.empty()) all_done_ = done_.load();
}

bool Heartbeat::is_over(const Peer& peer) const { return is_lead() ? peer.told == kDone : all_done_ || lead_left_; }

void Heartbeat::look_for_silence() {
  for (const Peer& peer : peers_) {
    const double silence_s = parts_.options.silence_s;
    if (parts_.verdict.failed() || is_over(peer) || seconds_since(peer.sign) < silence_s) continue;
    parts_.verdict.fail(
        io_error(parts_.names[static_cast<size_t>(peer.rank)] + " gave no sign of life for " +
                 whole_seconds(silence_s) + parts_.waits.text(parts_.mpi.rank(), peer.rank, parts_.stage) +
                 "; it was killed, stopped or lost its network: look at that machine, then run again"),
        peer.rank);
  }
}

void Heartbeat::look_at_roll() {
  if (roll_wanted_ && !roll_is_called_) {
    roll_is_called_ = true;
    roll_began_ = Clock::now();
  }
  if (!roll_is_called_) return;
  // Others may have ended since because of the first: the one with the oldest sign was it.
  const Peer* silent = nullptr;
  for (const Peer& peer : peers_)
    if (peer.sign < roll_began_ && !is_over(peer) && (silent == nullptr || peer.sign < silent->sign)) silent = &peer;
  if (silent != nullptr && seconds_since(roll_began_) < (is_lead() ? kRollOfLead_s : kRoll_s)) return;
  if (silent != nullptr) {
    parts_.verdict.fail(io_error(parts_.names[static_cast<size_t>(silent->rank)] + " ended" +
                                 parts_.waits.text(parts_.mpi.rank(), silent->rank, parts_.stage) + kCrashed),
                        silent->rank);
  }
  roll_is_called_ = roll_wanted_ = false;
}

std::optional<Waits::Wait> Heartbeat::late() const {
  std::lock_guard lock(late_mutex_);
  return late_;
}

void Heartbeat::judge(const Waits::Wait& late) {
  constexpr double kForTheLead_s = 1;
  {
    std::lock_guard lock(late_mutex_);
    if (!late_) late_ = late;
  }
  const Clock::time_point began = Clock::now();
  while (!parts_.verdict.failed() && seconds_since(began) < kForTheLead_s) std::this_thread::sleep_for(milliseconds(1));
  parts_.verdict.fail(blame(late), late.rank);
}

Status Heartbeat::blame(const Waits::Wait& late) const {
  const std::string missed = std::string(late.sends ? " did not take " : " did not send ") + tag_name(late.tag);
  return waited_too_long(parts_.names[static_cast<size_t>(late.rank)] + missed, parts_.options.wait_s);
}

// What a rank waits for, as far as this one knows; not what it has begun to wait for just now.
std::optional<Waits::Wait> Heartbeat::wait_of(int rank) const {
  constexpr double kJustNow_s = 0.5;
  if (rank == parts_.mpi.rank()) return parts_.waits.longest(std::min(kJustNow_s, parts_.options.wait_s / 2));
  for (const Peer& peer : peers_)
    if (peer.rank == rank) return peer.wait;
  return {};
}

// On the lead. The rank that is waited for may wait itself, for another one.
void Heartbeat::look_at_waits() {
  if (!is_lead() || parts_.verdict.failed()) return;
  std::optional<Waits::Wait> first = late();
  for (const Peer& peer : peers_)
    if (!first && peer.is_late) first = peer.wait;
  if (!first) return;
  Waits::Wait last = *first;
  int steps = 0;
  for (auto next = wait_of(last.rank); next && steps < parts_.mpi.size(); next = wait_of(last.rank)) {
    last = *next;
    ++steps;
  }
  const bool in_a_circle = steps == parts_.mpi.size();
  const Waits::Wait& late = in_a_circle ? *first : last;
  parts_.verdict.fail(blame(late), late.rank);
}

void Heartbeat::meet() {
  done_ = true;
  const Clock::time_point began = Clock::now();
  while (!all_done_ && !parts_.verdict.failed() && seconds_since(began) < parts_.options.wait_s)
    std::this_thread::sleep_for(milliseconds(1));
  if (!all_done_) parts_.verdict.fail(waited_too_long("a rank did not come to the end", parts_.options.wait_s));
}

void Heartbeat::roll_call() {
  if (parts_.mpi.frozen()) return;
  roll_wanted_ = true;
  while (roll_wanted_ && !parts_.verdict.failed()) std::this_thread::sleep_for(milliseconds(1));
}

bool Heartbeat::was_stopped() const { return seconds_since(resumed_at_) < kAfterStop_s; }

double Heartbeat::launcher_signal_ago() const {
  const Clock::time_point at = signal_at_;
  return at == Clock::time_point() ? std::numeric_limits<double>::infinity() : seconds_since(at);
}

}  // namespace liveavatar::mpi
