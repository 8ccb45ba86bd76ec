// The program's peak resident memory against its plan, from outside.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
const std::string kSource = LA_SOURCE_DIR;

// Processor time of all children that ended: unlike the clock it does not see what else the machine does.
double children_cpu_seconds() {
  rusage use{};
  getrusage(RUSAGE_CHILDREN, &use);
  return double(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + double(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

class MeasuredMemoryTest : public ::testing::Test {
 protected:
  // Exit code of `generate`; what it says is in log().
  int generate(const std::string& more) const {
    std::string command = std::string(LA_PROGRAM) + " generate --ckpt_dir " + kSource + "/models/mini --image " +
                          kSource + "/assets/demo/portrait.png --audio " + kSource +
                          "/assets/demo/voice.wav --prompt hi --num_clip 1 --threads 2 --save_file " +
                          dir_.file("out.mp4") + " --report " + dir_.file("report.json") + " " + more + " > " +
                          dir_.file("log") + " 2>&1";
    int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string log() const {
    std::ifstream file(dir_ / "log");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  nlohmann::json report() const { return nlohmann::json::parse(std::ifstream(dir_ / "report.json")); }

  TempDir dir_;
};

TEST_F(MeasuredMemoryTest, PeakResidentMemoryEqualsThePlan) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory is not the plan's";
#endif
  for (const char* size : {"64*64", "128*128", "192*192"}) {
    ASSERT_EQ(generate("--size '" + std::string(size) + "' --infer_frames 24"), 0) << log();
    nlohmann::json r = report();
    double predicted = r["predicted_peak_bytes"], measured = r["measured_peak_bytes"];
    EXPECT_LE(std::abs(measured - predicted), std::max(0.03 * predicted, double(8 << 20)))
        << size << ": predicted " << predicted << ", measured " << measured << " bytes";
    EXPECT_LE(r["charged_peak_bytes"].get<double>(), predicted);
    for (const char* stage : {"load", "image", "sample", "decode", "write"})
      EXPECT_GT(r["seconds"][stage].get<double>(), 0) << stage;
    EXPECT_NE(log().find("memory: "), std::string::npos);
  }
}

// Several jobs in one process: memory of one is not held during the next.
TEST_F(MeasuredMemoryTest, RepeatedJobsStayWithinThePlan) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory is not the plan's";
#endif
  std::string command = std::string(LA_PROGRAM) + " bench --quiet --ckpt_dir " + kSource + "/models/mini --image " +
                        kSource + "/assets/demo/portrait.png --audio " + kSource +
                        "/assets/demo/voice.wav --size '64*64' --num_clip 1 --infer_frames 24 --threads 2 --repeats 4 "
                        "--json " +
                        dir_.file("report.json") + " > " + dir_.file("log") + " 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0) << log();
  nlohmann::json r = report();
  EXPECT_LE(r["mini.measured_peak_bytes"].get<double>(), r["mini.predicted_peak_bytes"].get<double>());
}

// A budget that is too small is refused at once; with the suggestion of the error the job runs within its budget.
TEST_F(MeasuredMemoryTest, RefusesATooSmallBudgetAtOnceAndTheSuggestionWorks) {
  ASSERT_EQ(generate("--size '128*128' --infer_frames 12"), 0) << log();
  size_t peak = report()["predicted_peak_bytes"];
  std::string budget = "--memory_budget " + std::to_string(peak - (4 << 20)) + " ";
  double before = children_cpu_seconds();
  ASSERT_EQ(generate("--size '128*128' --infer_frames 12 " + budget), 1);
  EXPECT_LT(children_cpu_seconds() - before, 1);
  std::string line = log();
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
  size_t suggestion = line.find("--size \""), end = line.find('"', suggestion + 8);
  ASSERT_NE(suggestion, std::string::npos) << line;
  ASSERT_EQ(generate("--infer_frames 12 " + budget + line.substr(suggestion, end + 1 - suggestion)), 0) << log();
  EXPECT_LE(report()["charged_peak_bytes"], peak - (4 << 20));
  size_t more = line.find("--memory_budget ");
  ASSERT_NE(more, std::string::npos) << line;
  std::string raised = line.substr(more, line.find(' ', more + 16) - more);
  EXPECT_EQ(generate("--size '128*128' --infer_frames 12 " + raised), 0) << log();
}

TEST_F(MeasuredMemoryTest, ReportsAReportFileThatCannotBeWritten) {
  EXPECT_EQ(generate("--size '64*64' --infer_frames 12 --quiet --report /nowhere/report.json"), 1);
  EXPECT_NE(log().find("--report /nowhere/report.json"), std::string::npos) << log();
}

}  // namespace
}  // namespace liveavatar
