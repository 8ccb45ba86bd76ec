// Which processes are ranks, by what their launchers leave in the environment.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <string>

#include "parallel/open_mpi_group.h"

namespace liveavatar {
namespace {

constexpr const char* kNames[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"};

// In the order of kNames; "": not set.
bool started_with(const std::array<std::string, 4>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].empty()) {
      unsetenv(kNames[i]);
    } else {
      setenv(kNames[i], values[i].c_str(), 1);
    }
  }
  const bool started = started_by_mpi();
  for (const char* name : kNames) unsetenv(name);
  return started;
}

TEST(StartedByMpi, SeveralProcessesAreRanksAndOneIsNone) {
  EXPECT_FALSE(started_with({"", "", "", ""}));
  EXPECT_TRUE(started_with({"2", "1", "", ""}));
  EXPECT_FALSE(started_with({"1", "0", "", ""}));
  EXPECT_TRUE(started_with({"", "0", "", ""}));
  // srun
  EXPECT_TRUE(started_with({"", "0", "4", "4"}));
  EXPECT_FALSE(started_with({"", "0", "1", "1"}));
  EXPECT_FALSE(started_with({"", "0", "1", "4"}));  // one step of an allocation for four
  EXPECT_FALSE(started_with({"", "0", "", "1"}));
  EXPECT_FALSE(started_with({"", "", "4", "4"}));  // without PMIx: they know nothing of each other
  // mpirun in an allocation
  EXPECT_TRUE(started_with({"4", "2", "1", "1"}));
}

}  // namespace
}  // namespace liveavatar
