#include "cli/mpi_rank.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "cli/commands.h"
#include "cli/field_flags.h"
#include "cli/stop_signal.h"
#include "parallel/open_mpi_group.h"
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

}  // namespace

bool is_other_rank() {
  if (!started_by_mpi()) return false;
  const std::string rank = variable("OMPI_COMM_WORLD_RANK", "PMIX_RANK");
  return !rank.empty() && rank != "0";
}

Expected<std::unique_ptr<Group>> join_ranks(EngineOptions& options) {
  if (!started_by_mpi()) return std::unique_ptr<Group>();
  if (!options.devices.empty())
    return invalid_argument(
        "--devices under mpirun: each process is a rank, on --device; leave it out, and start as "
        "many processes as there are devices");
  if (options.device == "cuda") options.device += ":" + variable("OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID");
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Group> group, open_mpi_group(options.device));
  if (group->size() > 1) options.devices = "mpi:" + std::to_string(group->size());
  share_host_memory(*group, options);
  return group;
}

int run_rank(const EngineOptions& options, Group& group) {
  // The lead ends all, when its file is finished.
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_IGN);
  const Status served = serve_ranks(options, group);
  if (!served.ok() && group.speaks()) std::fprintf(stderr, "liveavatar: %s\n", in_flags(served.message()).c_str());
  return group.end(served.ok() ? 0 : exit_code(served));
}

Status end_of_run(const Status& status, Group& group) {
  if (!StopSignal::requested()) return status;
  const Status died = group.roll_call();
  return died.ok() || died.code() == ErrorCode::kCancelled ? status : died;
}

int end_lead(int code, Group& group) {
  const Status ended = code == 0 ? end_ranks(group) : Status();
  return group.end(ended.ok() ? code : report(ended));
}

}  // namespace liveavatar::cli
