#include "cli/mpi_rank.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "cli/commands.h"
#include "cli/field_flags.h"
#include "cli/stop_signal.h"
#include "parallel/host_name.h"
#include "parallel/open_mpi_group.h"
#include "parallel/sibling_watch.h"
#include "pipeline/engine.h"
#include "pipeline/rank_server.h"

namespace liveavatar::cli {
namespace {

// Of Open MPI and of srun.
std::string variable(const char* open_mpi, const char* slurm) {
  for (const char* name : {open_mpi, slurm})
    if (const char* value = std::getenv(name); value != nullptr) return value;
  return "";
}

bool g_joined = false;

void say(const Status& status) { std::fprintf(stderr, "liveavatar: %s\n", in_flags(status.message()).c_str()); }

}  // namespace

bool is_other_rank() {
  if (!started_by_mpi()) return false;
  const std::string rank = variable("OMPI_COMM_WORLD_RANK", "PMIX_RANK");
  return !rank.empty() && rank != "0";
}

std::string name_before_join(int code) {
  if (!started_by_mpi() || g_joined) return "";
  constexpr std::chrono::milliseconds kToBeSeen{150}, kForTheLead{3000}, kForEachBefore{300};
  announce_own_error();
  if (!is_other_rank()) {
    std::this_thread::sleep_for(kToBeSeen);
    return "";
  }
  static volatile std::sig_atomic_t exit_code = 1;
  exit_code = code;
  std::signal(SIGCONT, [](int) { ::_exit(exit_code); });  // mpirun's, when a process has ended with an error
  const std::string rank = variable("OMPI_COMM_WORLD_RANK", "PMIX_RANK");
  std::this_thread::sleep_for(kForTheLead + kForEachBefore * std::atoi(rank.c_str()));
  return "rank " + rank + " (" + host_name() + "): ";
}

Expected<std::unique_ptr<Group>> join_ranks(EngineOptions& options) {
  if (!started_by_mpi()) return std::unique_ptr<Group>();
  if (!options.devices.empty())
    return invalid_argument(
        "--devices under mpirun: each process is a rank, on --device; leave it out, and start as "
        "many processes as there are devices");
  if (options.device == "cuda") options.device += ":" + variable("OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID");
  Group::Options how;
  how.last_words = say;
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Group> group, open_mpi_group(options.device, how));
  g_joined = true;
  if (group->size() > 1) options.devices = "mpi:" + std::to_string(group->size());
  share_host_memory(*group, options);
  return group;
}

namespace {

void ignore_stops() {
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_IGN);
}

// The process ends here: one that is stopped later would keep the launcher, and no other rank is left to see it.
[[noreturn]] void leave(int code) {
  std::fflush(nullptr);
  std::_Exit(code);
}

}  // namespace

void run_rank(const Status& flags, const EngineOptions& options, Group& group) {
  ignore_stops();  // the lead ends all, when its file is finished
  const Status served = flags.ok() ? serve_ranks(options, group) : fail_ranks(flags, group);
  if (!served.ok() && group.speaks()) say(served);
  leave(group.end(served.ok() ? 0 : exit_code(served)));
}

Status end_of_run(const Status& status, Group& group) {
  const Status failed = StopSignal::requested() ? group.roll_call() : group.status();
  const bool by_another = !failed.ok() && failed.code() != ErrorCode::kCancelled;
  const bool says_nothing = status.ok() || status.code() == ErrorCode::kCancelled;
  return by_another && says_nothing ? failed : status;
}

void end_lead(int code, Group& group) {
  ignore_stops();  // the file is finished
  const Status ended = code == 0 ? end_ranks(group) : Status();
  leave(group.end(ended.ok() ? code : report(ended)));
}

}  // namespace liveavatar::cli
