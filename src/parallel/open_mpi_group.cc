#include "parallel/open_mpi_group.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "liveavatar/version.h"
#include "parallel/sibling_watch.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

// Beside the program, in the build tree and as it is installed. Empty: it is not there.
fs::path find_plugin() {
  std::error_code ignored;
  const fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const char* plugins : {"../lib/liveavatar", LIVEAVATAR_PLUGINS_FROM_BIN}) {
    const fs::path file = folder / plugins / "mpi.so";
    if (fs::exists(file, ignored)) return file.lexically_normal();
  }
  return {};
}

Expected<MpiFactory*> load_factory(const fs::path& file) {
  void* plugin = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);  // for good: MPI cannot be unloaded
  if (plugin == nullptr) {
    const char* why = dlerror();
    return unsupported(file.string() + " cannot be loaded (" + (why != nullptr ? why : "no reason given") +
                       "): install Open MPI, or build again");
  }
  const auto* version = static_cast<const char* const*>(dlsym(plugin, kMpiVersion));
  void* factory = dlsym(plugin, kMpiFactory);
  if (version == nullptr || factory == nullptr || std::string_view(*version) != LIVEAVATAR_VERSION_STRING)
    return unsupported(file.string() + " belongs to another version of liveavatar: install both again");
  return reinterpret_cast<MpiFactory*>(factory);
}

}  // namespace

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
  const fs::path file = find_plugin();
  if (file.empty()) return unsupported("built without MPI: install libopenmpi-dev and build again");
  LA_ASSIGN_OR_RETURN(MpiFactory * open, load_factory(file));
  Expected<std::unique_ptr<Group>> opened = invalid_argument("not opened");
  open(device, options, &opened);
  return opened;
}

}  // namespace liveavatar
