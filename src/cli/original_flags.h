// Flags of the Python original for the placement of models, and their effect here.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "plan/report.h"

namespace liveavatar::cli {

struct OriginalFlags {
  std::string offload_model;  // as the original spells true and false; empty: not given
  bool t5_cpu = false;

  // --offload_model False: no layer may go to disk.
  bool all_in_memory() const;
};

void add_original_flags(CLI::App& app, OriginalFlags& flags, const std::string& group);

// A line for each flag that was given: its effect.
std::vector<std::string> explain(const OriginalFlags& flags);

// kInvalidArgument where layers would be paged and must not.
Status check_original_flags(const OriginalFlags& flags, const JobShape& resolved);

}  // namespace liveavatar::cli
