// The order of the steps, and their results.
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "gpu_check.h"

namespace liveavatar::gpu_check {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct Step {
  std::string name;
  std::string arguments;  // of this program
  double seconds;         // it is stopped behind
};

std::string golden(const Options& o, const std::string& dtype, const std::string& more,
                   const std::vector<std::string>& folders) {
  std::string arguments = "golden --device " + o.device + " --dtype " + dtype + more;
  for (const std::string& folder : folders) arguments += " '" + o.goldens + "/" + folder + "'";
  return arguments;
}

// What says most comes first: whether there is a card, whether it computes right, then how fast.
std::vector<Step> steps(const Options& o) {
  const std::string& d = o.device;
  const std::vector<std::string> dit{"dit", "dit_even"}, models{"vae", "umt5"};
  auto bench = [&](const std::string& settings) { return "bench " + d + " " + settings; };
  return {
      {"card", "card " + d, 30},
      {"golden.dit.f32", golden(o, "f32", "", dit), 60},
      {"golden.dit.bf16", golden(o, "bf16", "", dit), 60},
      {"ops", "ops " + d, 120},
      {"rates", "rates " + d, 90},
      {"bench.4_layers.bf16.704x384", bench("layers=4 size=704*384"), 60},
      {"bench.4_layers.bf16.704x384.own", bench("layers=4 size=704*384 own"), 60},
      {"bench.4_layers.int8.704x384", bench("layers=4 size=704*384 int8"), 60},
      {"golden.dit.int8", golden(o, "bf16", " --weights_dtype int8 --kv_dtype int8", dit), 60},
      {"golden.dit.fp8", golden(o, "bf16", " --weights_dtype fp8 --kv_dtype fp8", dit), 60},
      {"golden.models.f32", golden(o, "f32", "", models), 90},
      {"golden.models.bf16", golden(o, "bf16", "", models), 90},
      {"copies", "copies " + d, 30},
      {"bench.4_layers.bf16.384x256", bench("layers=4 size=384*256"), 60},
      {"bench.4_layers.fp8.704x384", bench("layers=4 size=704*384 fp8"), 60},
      {"bench.4_layers.bf16.1280x720", bench("layers=4 size=1280*720 kv_int8"), 60},
      {"bench.8_layers.paged", bench("layers=8 size=384*256 budget_mib=6144 paging=."), 120},
  };
}

struct Ran {
  std::string output;
  int code = 0;  // 124: stopped after its time
};

Ran run(const std::string& command) {
  Ran ran;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return {"the system gives no process", 1};
  char part[4096];
  while (const size_t count = std::fread(part, 1, sizeof part, pipe)) {
    ran.output.append(part, count);
    std::fwrite(part, 1, count, stdout);
    std::fflush(stdout);
  }
  const int status = pclose(pipe);
  ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

// "figure NAME NUMBER UNIT", "N passed, M failed", and the last lines of what failed.
Json result_of(const Ran& ran, double seconds) {
  Json json{{"exit_code", ran.code}, {"seconds", seconds}};
  std::istringstream lines(ran.output);
  std::string line, last;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string word, name, unit;
    double value = 0;
    if (words >> word && word == "figure" && words >> name >> value >> unit)
      json["figures"][name + " (" + unit + ")"] = value;
    if (line.find(" passed, ") != std::string::npos || line.find("[  PASSED  ]") == 0) json["summary"] = line;
    if (!line.empty()) last = line;
  }
  if (ran.code != 0) json["last_line"] = last;
  return json;
}

void write(const Options& o, const Json& results) {
  std::ofstream(o.results + ".new") << results.dump(2) << "\n";
  std::rename((o.results + ".new").c_str(), o.results.c_str());
}

}  // namespace

int run_all(const std::string& program, const Options& o) {
  const Clock::time_point start = Clock::now();
  auto seconds_since_start = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  Json results{{"device", o.device}, {"steps", Json::object()}};
  int failures = 0;
  for (const Step& step : steps(o)) {
    const double begun = seconds_since_start(), left = o.seconds - begun;
    if (left < 5) {
      results["skipped_for_time"].push_back(step.name);
      continue;
    }
    std::printf("\n== %s\n", step.name.c_str());
    const int limit = static_cast<int>(std::min(step.seconds, left));
    const Ran ran = run("timeout -k 5 " + std::to_string(limit) + " " + program + " " + step.arguments + " 2>&1");
    results["steps"][step.name] = result_of(ran, seconds_since_start() - begun);
    failures += ran.code == 0 ? 0 : 1;
    write(o, results);
    if (step.name == "card" && ran.code != 0) break;  // nothing else can work
  }
  results["seconds"] = seconds_since_start();
  results["failed_steps"] = failures;
  write(o, results);
  std::printf("\n%s: %d of the steps failed\n", o.results.c_str(), failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace liveavatar::gpu_check
