// Ranks that are processes, of one machine or several, under Open MPI. The code that calls MPI is a plugin
// (src/parallel/mpi) that is loaded here: a run without MPI loads nothing of it, and needs no MPI.
#pragma once

#include <memory>
#include <string>

#include "core/status.h"
#include "parallel/group.h"

namespace liveavatar {

// Whether mpirun or srun started this process as one of several.
bool started_by_mpi();

// This process's end of all that were started with it. Once a process, early: it begins MPI. device: this rank's, for
// messages. The group is to be ended by Group::end().
//
// What mpirun does decides how a run ends. When a process dies by a signal, or ends with a code that is not 0, mpirun
// sends SIGCONT to all others at once, SIGTERM a second later and SIGKILL after another one; sooner if one more process
// ends meanwhile, so the others wait for the lead. The group takes that SIGCONT for what it is: within 0.6 s it knows
// which rank is gone, and the lead has the rest of two seconds for its file (`mpirun --mca odls_base_sigkill_timeout S`
// makes S of each second). No signal comes when a process is stopped, hangs or cannot be reached: silence or a wait
// that is too long tells, and the lead has Options::end_s. Then the lead ends, with its code, and mpirun kills the
// rest. A mpirun that still waits for a machine 4.5 s after that is killed.
Expected<std::unique_ptr<Group>> open_mpi_group(const std::string& device, const Group::Options& options = {});

// What the plugin exports as kMpiFactory. The caller owns the group.
using MpiFactory = void(const std::string& device, const Group::Options& options,
                        Expected<std::unique_ptr<Group>>* opened);
constexpr const char* kMpiFactory = "liveavatar_open_mpi_group";
// And as kMpiVersion: a program and a plugin of two versions do not fit.
constexpr const char* kMpiVersion = "liveavatar_mpi_version";

}  // namespace liveavatar
