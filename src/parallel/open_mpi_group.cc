#include "parallel/open_mpi_group.h"

#include <cstdlib>
#include <string_view>

#include "core/plugin.h"
#include "parallel/sibling_watch.h"

namespace liveavatar {

bool started_by_mpi() {
  // Of mpirun, then of srun, which gives PMIX_RANK to one task too; the last is also that of a whole allocation.
  const bool by_pmix = std::getenv("PMIX_RANK") != nullptr;
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) {
    const char* tasks = std::getenv(name);
    if (tasks != nullptr && (by_pmix || std::string_view(name).starts_with("OMPI")))
      return std::string_view(tasks) != "1";
  }
  return by_pmix;
}

Expected<std::unique_ptr<Group>> open_mpi_group(const std::string& device, const Group::Options& options) {
  if (!started_by_mpi()) return invalid_argument("this process is no rank of MPI: start it with mpirun or srun");
  SiblingWatch watch(SiblingWatch::Phase::kBegin, options);
  const std::string file = find_plugin("mpi");
  if (file.empty()) return unsupported("built without MPI: install libopenmpi-dev and build again");
  LA_ASSIGN_OR_RETURN(void* factory, load_plugin(file, {kMpiVersion, kMpiFactory}, "install Open MPI"));
  auto* open = reinterpret_cast<MpiFactory*>(factory);
  Expected<std::unique_ptr<Group>> opened = invalid_argument("not opened");
  open(device, options, &opened);
  return opened;
}

}  // namespace liveavatar
