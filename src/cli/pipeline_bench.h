// Benchmarks a whole job as `generate` runs it, several times, into a temporary file.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "liveavatar/liveavatar.h"
#include "plan/report.h"

namespace liveavatar::cli {

struct PipelineBenchOptions {
  EngineOptions engine;
  GenerateRequest job;
  int repeats = 3;  // measured, after one warm-up run
  bool quiet = false;
};

struct Spread {
  double median = 0, lowest = 0, highest = 0;
};

struct PipelineBenchResult {
  std::string model;  // the checkpoint folder's name
  JobInfo info;
  PlanReport plan_report;
  int repeats = 0;
  size_t measured_peak_bytes = 0, file_bytes = 0;
  std::vector<std::pair<std::string, Spread>> figures;  // keys of docs/performance.md, without the model
};

// The engine is loaded anew for every run. kCancelled after the stop of a StopSignal.
Expected<PipelineBenchResult> run_pipeline_bench(PipelineBenchOptions options);

void print_table(const PipelineBenchResult& result);
std::string to_json(const PipelineBenchResult& result);

}  // namespace liveavatar::cli
