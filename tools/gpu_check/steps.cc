// The order of the steps, and their results.
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "gpu_check.h"
#include "results.h"

namespace liveavatar::gpu_check {
namespace {

using Clock = std::chrono::steady_clock;

struct Step {
  std::string name;
  std::string command;
  double seconds;      // it is stopped behind
  std::string needs;   // a command that fails where the step cannot be run
  std::string absent;  // what is said then
};

// The commands of steps.
class Commands {
 public:
  Commands(const std::string& program, const Options& options) : program_(program), o_(options) {}

  Step step(const std::string& name, const std::string& arguments, double seconds) const {
    return {name, program_ + " " + arguments, seconds};
  }
  Step on_device(const std::string& name, double seconds) const { return step(name, name + " " + o_.device, seconds); }
  Step golden(const std::string& name, const std::string& flags, const std::vector<std::string>& folders,
              double seconds) const {
    std::string arguments = "golden --device " + o_.device + " --dtype " + flags;
    for (const std::string& folder : folders) arguments += " '" + o_.goldens + "/" + folder + "'";
    return step("golden." + name, arguments, seconds);
  }
  Step bench(const std::string& name, const std::string& settings, double seconds) const {
    return step("bench." + name, "bench " + o_.device + " " + settings, seconds);
  }
  // Two ranks on the one card that there is.
  Step ranks(double seconds) const {
    return {"ranks", program_ + " ranks " + o_.device, seconds, program_ + " card " + o_.device + " > /dev/null 2>&1",
            "no card: " + o_.device + " cannot be opened (step card says why)"};
  }
  // The same work by PyTorch, where there is one for cards; beside the emulated card, by any on the CPU.
  Step torch(const std::string& name, double seconds) const {
    const bool emulated = o_.device == "cuda-emulated";
    const std::string usable = emulated ? "0" : "not torch.cuda.is_available()";
    const std::string where = emulated ? " --tiny" : " --device " + o_.device;
    return {"torch." + name, "'" + o_.python + "' '" + o_.torch_side + "' " + name + where, seconds,
            "timeout 60 '" + o_.python + "' -c 'import sys, torch; sys.exit(" + usable + ")' > /dev/null 2>&1",
            "no torch: " + o_.python + " has no PyTorch" + (emulated ? "" : " that sees a card")};
  }
  // The tests of ops in one of compute-sanitizer's tools.
  Step sanitizer(const std::string& tool, double seconds) const {
    return {"sanitizer." + tool,
            "compute-sanitizer --tool " + tool + " --target-processes all --print-limit 20 --error-exitcode 9 " +
                program_ + " ops " + o_.device,
            seconds, "command -v compute-sanitizer > /dev/null", "no compute-sanitizer in PATH or /usr/local/cuda/bin"};
  }

 private:
  std::string program_;
  const Options& o_;
};

// What says most comes first: whether there is a card, whether it computes right, then how fast.
std::vector<Step> steps(const std::string& program, const Options& o) {
  const Commands c(program, o);
  const std::vector<std::string> dit{"dit", "dit_even"}, models{"vae", "umt5"};
  return {
      c.on_device("card", 30),
      c.golden("dit.f32", "f32", dit, 60),
      c.golden("dit.bf16", "bf16", dit, 60),
      c.on_device("ops", 120),
      c.on_device("rates", 90),
      c.on_device("layers", 60),
      c.bench("4_layers.bf16.704x384", "layers=4 size=704*384", 60),
      c.bench("4_layers.bf16.704x384.own", "layers=4 size=704*384 own", 60),
      c.bench("4_layers.int8.704x384", "layers=4 size=704*384 int8", 60),
      c.ranks(90),
      c.torch("rates", 60),
      c.torch("layers", 120),
      c.golden("dit.int8", "bf16 --weights_dtype int8 --kv_dtype int8", dit, 60),
      c.golden("dit.fp8", "bf16 --weights_dtype fp8 --kv_dtype fp8", dit, 60),
      c.golden("models.f32", "f32", models, 90),
      c.golden("models.bf16", "bf16", models, 90),
      c.on_device("copies", 30),
      c.bench("4_layers.bf16.384x256", "layers=4 size=384*256", 60),
      c.bench("4_layers.fp8.704x384", "layers=4 size=704*384 fp8", 60),
      c.bench("4_layers.bf16.1280x720", "layers=4 size=1280*720 kv_int8", 60),
      c.bench("8_layers.host_memory", "layers=8 size=384*256 budget_mib=4096", 120),
      c.bench("8_layers.paged", "layers=8 size=384*256 budget_mib=4096 host_mib=2048 paging=.", 120),
      c.sanitizer("memcheck", 300),
      c.sanitizer("racecheck", 300),
      c.sanitizer("synccheck", 300),
      c.sanitizer("initcheck", 300),
  };
}

// "rates,torch.": the steps whose names begin so; all where nothing is asked for.
bool asked_for(const Step& step, const std::string& only) {
  if (only.empty()) return true;
  size_t begin = 0;
  while (begin <= only.size()) {
    const size_t end = std::min(only.find(',', begin), only.size());
    if (end > begin && step.name.starts_with(only.substr(begin, end - begin))) return true;
    begin = end + 1;
  }
  return false;
}

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

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", std::gmtime(&now));
  return text;
}

// Runs the steps, and keeps the results' file up to date.
class Check {
 public:
  explicit Check(const Options& options) : o_(options) {
    results_ = {{"device", o_.device}, {"date", today()}, {"steps", Json::object()}};
  }

  bool write() const {
    if (write_results(results_, o_.results)) return true;
    std::fprintf(stderr, "gpu_check: %s: cannot be written; give --results FILE in a folder that can\n",
                 o_.results.c_str());
    return false;
  }

  // False: nothing after it can work.
  bool run_step(const Step& step) {
    const double begun = seconds(), left = o_.seconds - begun;
    constexpr double kShortest = 5;
    if (left < kShortest) {
      results_["skipped_for_time"].push_back(step.name);
      return write();
    }
    std::printf("\n== %s\n", step.name.c_str());
    if (!step.needs.empty() && run(step.needs).code != 0) {
      std::printf("%s\n", step.absent.c_str());
      results_["steps"][step.name] = {{"not_run", step.absent}};
      return write();
    }
    const int limit = static_cast<int>(std::min(step.seconds, left));
    const Ran ran = run("timeout -k 5 " + std::to_string(limit) + " " + step.command + " 2>&1");
    Json result = result_of(ran, seconds() - begun);
    // Where the time of all ended first, the step did nothing wrong.
    constexpr int kStopped = 124, kKilled = 137;
    const bool cut_off = (ran.code == kStopped || ran.code == kKilled) && left < step.seconds;
    if (cut_off) result["cut_off"] = true;
    failures_ += ran.code == 0 || cut_off ? 0 : 1;
    if (result.contains("card")) results_["card"] = result["card"];
    results_["steps"][step.name] = result;
    results_["against_torch"] = compare_with_torch(results_["steps"]);
    return write() && (step.name != "card" || ran.code == 0);
  }

  int finish() {
    results_["seconds"] = seconds();
    results_["failed_steps"] = failures_;
    if (!write()) return 1;
    std::printf("\n%s: %d of the steps failed\n", o_.results.c_str(), failures_);
    return failures_ == 0 ? 0 : 1;
  }

 private:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  const Options& o_;
  Clock::time_point start_ = Clock::now();
  Json results_;
  int failures_ = 0;
};

void add_to_path(const std::string& folder) {
  const char* path = std::getenv("PATH");
  setenv("PATH", ((path == nullptr ? "" : std::string(path) + ":") + folder).c_str(), 1);
}

}  // namespace

int run_all(const std::string& program, const Options& o) {
  add_to_path("/usr/local/cuda/bin");  // of compute-sanitizer
  Check check(o);
  if (!check.write()) return 2;
  std::vector<Step> chosen = steps(program, o);
  std::erase_if(chosen, [&](const Step& step) { return !asked_for(step, o.only); });
  if (chosen.empty()) {
    std::fprintf(stderr, "gpu_check: --only %s: no step has such a name\n", o.only.c_str());
    return 2;
  }
  for (const Step& step : chosen) {
    const bool goes_on = check.run_step(step);
    if (!goes_on) break;
  }
  return check.finish();
}

}  // namespace liveavatar::gpu_check
