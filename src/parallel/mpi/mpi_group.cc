#include "parallel/mpi/mpi_group.h"

#include <cstdlib>
#include <cstring>
#include <thread>

#include "liveavatar/version.h"
#include "parallel/host_name.h"
#include "parallel/open_mpi_group.h"

namespace liveavatar::mpi {
namespace {

// A failure that mpirun's signal brought to light, and one that mpirun follows.
constexpr double kRollCall_s = 2, kAtOnce_s = 0.1;

std::vector<std::string> names_of(const Group& group) {
  std::vector<std::string> names;
  names.reserve(static_cast<size_t>(group.size()));
  for (int rank = 0; rank < group.size(); ++rank) names.push_back(group.name_of(rank));
  return names;
}

void copy_text(const std::string& text, std::span<char> to) { std::strncpy(to.data(), text.c_str(), to.size() - 1); }

}  // namespace

MpiGroup::MpiGroup(std::unique_ptr<Mpi> mpi, const std::vector<Introduction>& ranks, const Options& options)
    : mpi_(std::move(mpi)), options_(options), outgoing_(ranks.size() * kTagCount) {
  for (const Introduction& each : ranks) {
    places_.push_back({each.host, each.device});
    const bool same_host = std::strcmp(each.host, ranks[static_cast<size_t>(rank())].host) == 0;
    neighbors_.emplace_back(same_host ? each.process : ProcessId());
    const auto other = static_cast<int>(places_.size()) - 1;
    if (neighbors_.back().is_here()) siblings_.ranks[other] = static_cast<pid_t>(each.process.pid);
  }
  heartbeat_ =
      std::make_unique<Heartbeat>(Heartbeat::Parts{*mpi_, verdict_, waits_, stage(), names_of(*this), options_});
}

Status MpiGroup::start_send(int to, Tag tag, std::span<const std::byte> data) {
  LA_RETURN_IF_ERROR(finish_send(to, tag));
  LA_RETURN_IF_ERROR(status());
  Outgoing& out = outgoing(to, tag);
  out.transfer.send(*mpi_, to, static_cast<int>(tag), data);
  out.moving = !out.transfer.done(*mpi_);
  if (out.moving) heartbeat_->set_moving(true);
  return out.transfer.error() == MPI_SUCCESS ? Status() : failed_call(out.transfer.error(), {to, tag, true});
}

Status MpiGroup::finish_send(int to, Tag tag) {
  Outgoing& out = outgoing(to, tag);
  if (!out.moving) return {};
  Status sent = wait(out.transfer, {to, tag, true});
  out.moving = false;
  heartbeat_->set_moving(false);
  return sent;
}

Status MpiGroup::receive(int from, Tag tag, std::span<std::byte> data) {
  LA_RETURN_IF_ERROR(status());
  Transfer transfer;
  transfer.receive(*mpi_, from, static_cast<int>(tag), data);
  LA_RETURN_IF_ERROR(wait(transfer, {from, tag, false}));
  if (transfer.received() != data.size()) {
    abort(corrupt(name_of(from) + " sent " + std::to_string(transfer.received()) + " bytes of " + tag_name(tag) +
                  " where " + std::to_string(data.size()) + " belong; it runs another version of the program"));
    return status();
  }
  return {};
}

Expected<bool> MpiGroup::arrived(int from, Tag tag) {
  LA_RETURN_IF_ERROR(status());
  int there = 0;
  mpi_->call([&] { MPI_Iprobe(from, static_cast<int>(tag), mpi_->messages(), &there, MPI_STATUS_IGNORE); });
  return there != 0;
}

Expected<bool> MpiGroup::taken(int to, Tag tag) {
  LA_RETURN_IF_ERROR(status());
  Outgoing& out = outgoing(to, tag);
  if (!out.moving) return true;
  if (!out.transfer.done(*mpi_)) return false;
  LA_RETURN_IF_ERROR(finish_send(to, tag));
  return true;
}

// Until the transfer has ended. After a failure nobody reads or writes its bytes any more.
Status MpiGroup::wait(Transfer& transfer, const Waits::Wait& what) {
  const Clock::time_point began = Clock::now();
  std::optional<Waits::Entry> entry;
  Pause pause;
  bool done = transfer.done(*mpi_);
  while (!done && !verdict_.failed() && seconds_since(began) < options_.wait_s) {
    pause.next();
    if (pause.sleeps() && !entry) entry.emplace(waits_, what);
    done = transfer.done(*mpi_);
  }
  if (counts_as_wait(what.tag)) waited_ += (Clock::now() - began).count();
  if (done && transfer.error() == MPI_SUCCESS) return {};
  if (done) return failed_call(transfer.error(), what);
  if (!verdict_.failed()) heartbeat_->judge(what);
  let_go(transfer, what.rank);
  return status();
}

// After a failure. Open MPI cannot give up a message that has begun to move: those whose other side lives end in a
// moment; for the rest no bytes are moved at all from here on, once everybody knows of the failure.
void MpiGroup::let_go(Transfer& transfer, int other) {
  constexpr double kLongest_s = 1;
  transfer.cancel(*mpi_);
  const double moment_s = other == verdict_.gone() ? 0 : 0.3;
  while (!transfer.done(*mpi_)) {
    if (verdict_.seconds_ago() > (heartbeat_->failure_is_told() ? moment_s : kLongest_s)) return mpi_->freeze();
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

Status MpiGroup::failed_call(int error, const Waits::Wait& what) {
  abort(io_error("MPI failed with " + error_text(error) + " at " + tag_name(what.tag) +
                 (what.sends ? " to " : " from ") + name_of(what.rank) + ": look at the network between the machines"));
  return status();
}

Status MpiGroup::roll_call() {
  heartbeat_->roll_call();
  return status();
}

bool MpiGroup::speaks() {
  const bool leads = rank() == 0;
  if (!speaks_) speaks_ = leads || (verdict_.failed() && wait_for_lead());
  return *speaks_;
}

// The lead finishes its file meanwhile: mpirun, once it kills, kills all for good as soon as one more process ends. ->
// whether this rank has to speak instead: the second one, before others end.
bool MpiGroup::wait_for_lead() const {
  constexpr double kSignal_s = 3;  // the lead's end is known on other machines by mpirun's signal, up to 2 s later
  const bool is_second = rank() == 1;
  const double behind_s = is_second ? 0 : 1;
  while (verdict_.seconds_ago() < options_.end_s + kSignal_s + behind_s) {
    const bool lead_is_gone = verdict_.gone() == 0;
    if (lead_is_gone && verdict_.seconds_ago() >= behind_s) return is_second;
    const bool lead_has_ended = heartbeat_->lead_has_left().has_value() || neighbors_[0].has_ended();
    const bool launcher_followed = heartbeat_->launcher_signal_ago() < verdict_.seconds_ago() - kAtOnce_s;
    if (!lead_is_gone && (lead_has_ended || launcher_followed)) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return is_second && heartbeat_->launcher_signal_ago() > verdict_.seconds_ago() + kRollCall_s;
}

int MpiGroup::end(int code) {
  siblings_.launcher_ends_all = [before = count_continues()] { return count_continues() != before; };
  if (code != 0) abort(cancelled(name_of(rank()) + " ended with exit code " + std::to_string(code)));
  if (!verdict_.failed()) heartbeat_->meet();
  if (verdict_.failed()) return end_after_failure(code == 0 ? 1 : code);
  if (heartbeat_->was_stopped()) siblings_.launcher_ends_all = nullptr;
  SiblingWatch watch(SiblingWatch::Phase::kEnd, options_, siblings_);  // first: it notices if this process is stopped
  heartbeat_.reset();
  mpi_->finalize();
  watch.leave_together();
  return code;
}

int MpiGroup::end_after_failure(int code) {
  constexpr double kToTell_s = 0.5, kToAbort_s = 3;
  const bool speaker = speaks();
  // mpirun's code is that of the process which ends first.
  if (!speaker) code = heartbeat_->lead_has_left().value_or(code);
  heartbeat_->leave(code);
  const Clock::time_point began = Clock::now();
  while (rank() == 0 && !mpi_->frozen() && !heartbeat_->leaving_is_told() && seconds_since(began) < kToTell_s)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  mpi_->freeze();
  if (verdict_.gone() != kNobody) {
    neighbors_[static_cast<size_t>(verdict_.gone())].kill();
    end_launcher_later();
  }
  // mpirun kills who is left when this process ends with a code that is not 0, and sooner than by MPI_Abort. srun does
  // not.
  const bool under_mpirun = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;
  if (!speaker || under_mpirun) return code;
  ExitGuard guard(kToAbort_s, code);
  MPI_Abort(MPI_COMM_WORLD, code);
  return code;
}

}  // namespace liveavatar::mpi

extern "C" {
__attribute__((visibility("default"))) const char* liveavatar_mpi_version = LIVEAVATAR_VERSION_STRING;

__attribute__((visibility("default"))) void liveavatar_open_mpi_group(
    const std::string& device, const liveavatar::Group::Options& options,
    liveavatar::Expected<std::unique_ptr<liveavatar::Group>>* opened) {
  using namespace liveavatar::mpi;
  auto mpi = Mpi::begin();
  if (!mpi.ok()) {
    *opened = mpi.status();
    return;
  }
  Introduction own;
  copy_text(liveavatar::host_name(), own.host);
  copy_text(device, own.device);
  own.process = this_process();
  std::vector<Introduction> all(static_cast<size_t>((*mpi)->size()));
  MPI_Allgather(&own, sizeof(own), MPI_BYTE, all.data(), sizeof(own), MPI_BYTE, (*mpi)->messages());
  *opened = std::unique_ptr<liveavatar::Group>(std::make_unique<MpiGroup>(*std::move(mpi), all, options));
}
}
