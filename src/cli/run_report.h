// The report of a run: seconds by stage, planned and measured memory.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "pipeline/engine.h"
#include "plan/report.h"

namespace liveavatar::cli {

// Seconds by stage; a stage lasts until the next one begins.
class StageClock {
 public:
  void begin(const std::string& stage);
  std::vector<std::pair<std::string, double>> seconds();  // up to now, in order of first appearance

 private:
  using Clock = std::chrono::steady_clock;
  void close();
  std::vector<std::pair<std::string, double>> total_;
  std::string stage_;
  Clock::time_point since_;
};

// Highest resident set of this process so far (VmHWM): memory and the mapped program, without the page cache.
size_t peak_resident_bytes();

RunReport run_report_of(const PlanReport& plan_report, const LocalEngine& engine, StageClock& clock, int64_t frames);
// Of ranks in this process with a budget each: their sums, as the process is measured. Ranks on cards: nothing.
void sum_of_ranks(RunReport& run_report);
// A few lines for people.
void print_run_report(const RunReport& run_report);

}  // namespace liveavatar::cli
