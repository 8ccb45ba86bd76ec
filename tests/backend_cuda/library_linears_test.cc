// Linear layers by a library: used where it is right and quicker, and never to the harm of a result.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "backend/cuda/choice_file.h"
#include "backend/cuda/choice_table.h"
#include "backend/cuda/emulated/emulated_runtime.h"
#include "backend/cuda/planned_runtime.h"
#include "machine.h"
#include "stand_in_library.h"
#include "support/operands.h"
#include "support/temp_dir.h"

namespace liveavatar::cuda {
namespace {

constexpr int64_t kRows = 70, kWidth = 48, kDepth = 64;

using Act = liveavatar::Activation;

LinearSize size_of(DType out, Act activation, bool gate, bool residual) {
  return {kRows, kWidth, kDepth, DType::kBF16, DType::kBF16, out, activation, gate, residual};
}
// As a layer of the video model has them.
std::vector<LinearSize> hot_sizes() {
  return {size_of(DType::kBF16, Act::kNone, false, false), size_of(DType::kF32, Act::kNone, false, true),
          size_of(DType::kF32, Act::kNone, true, true), size_of(DType::kBF16, Act::kGeluTanh, false, false)};
}

class LibraryLinearsTest : public ::testing::Test {
 protected:
  // Of a card that has the stand-in, or no library.
  Machine open(bool has_library = true, bool tune = true) {
    EmulatedCard card;
    card.driver = driver_;
    if (has_library) card.linear_library = [this] { return make_stand_in(library_); };
    Machine m;
    m.device = std::make_unique<CudaDevice>(make_emulated_runtime(card), 0);
    m.backend = *CudaBackend::open(*m.device, {.tune = tune, .choices_file = file_});
    return m;
  }
  Machine reserve(bool has_library = true) {
    Machine m = open(has_library);
    const Status status = m.backend->reserve({.hot_linears = hot_sizes()});
    EXPECT_TRUE(status.ok()) << status.message();
    return m;
  }

  TempDir dir_;
  std::string file_ = dir_.file("cache/choices.json");
  std::string driver_ = "13.0";
  StandIn library_;
};

// A linear layer of random operands, the same in every call.
std::vector<float> result_of(Machine& m, const LinearSize& s) {
  Operands host;
  DeviceOperands on_device(m);
  const Tensor weight = host.normal({s.n, s.k}, DType::kBF16, 0.125f);
  const Tensor packed = host.zeros({int64_t(m.backend->packed_linear_bytes(s.n, s.k, s.weights))}, DType::kU8);
  m.backend->pack_linear(weight, s.weights, packed.address());
  const LinearWeight w{on_device(packed).address(), s.weights, s.n, s.k, on_device(host.normal({s.n}))};
  const Tensor x = on_device(host.normal({s.rows, s.k}, s.x)), out = on_device(host.normal({s.rows, s.n}, s.out));
  Epilogue e{.activation = s.activation};
  if (s.gate) e.gate = on_device(host.normal({1, s.n}));
  if (s.residual) e.residual = out;
  m.backend->linear(x, w, out, e);
  const Tensor got = host.zeros({s.rows, s.n}, s.out);
  m.backend->download(out, got.address());
  EXPECT_TRUE(m.device->status().ok()) << m.device->status().message();
  return liveavatar::floats(got);
}

// Largest difference, of the largest value.
double distance(const std::vector<float>& got, const std::vector<float>& want) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    worst = std::max(worst, std::fabs(double(got[i]) - want[i]));
    largest = std::max(largest, std::fabs(double(want[i])));
  }
  return worst / largest;
}

TEST_F(LibraryLinearsTest, ARightAndQuickerOneIsUsed) {
  Machine own = open(false), m = reserve();
  ASSERT_EQ(m.cuda().linear_choices().size(), hot_sizes().size());
  for (const LibraryChoice& choice : m.cuda().linear_choices()) {
    EXPECT_TRUE(choice.by_library) << choice.what << ": " << choice.why;
    EXPECT_EQ(choice.own_ms, 10);
    EXPECT_LE(choice.library_ms, 1.5);  // with a kernel of ours, before or behind it
  }
  for (const LinearSize& size : hot_sizes()) {
    const int before = library_.runs;
    const std::vector<float> got = result_of(m, size), want = result_of(own, size);
    EXPECT_EQ(library_.runs, before + 1);
    EXPECT_NE(got, want) << "sums in another order";
    EXPECT_LE(distance(got, want), size.out == DType::kF32 ? 1e-5 : 0x1p-7);
  }
  EXPECT_FALSE(m.backend->rows_are_independent());
  EXPECT_NE(m.backend->describe().find("stand-in 1.0 for 4 of 4"), std::string::npos) << m.backend->describe();
}

TEST_F(LibraryLinearsTest, OtherLayersAreTheOwnKernels) {
  Machine own = open(false), m = reserve();
  std::vector<LinearSize> others(4, hot_sizes().front());
  others[0].rows = kRows + 1;
  others[1].weights = DType::kI8;
  others[2].x = DType::kF32;
  others[3].activation = Act::kSilu;
  const int before = library_.runs;
  for (const LinearSize& size : others) EXPECT_EQ(result_of(m, size), result_of(own, size));
  EXPECT_EQ(library_.runs, before);
}

// Every hot layer stays our kernel's, to the bit, and each choice says why.
void expect_own(Machine& m, Machine& own, const std::string& why) {
  for (const LibraryChoice& choice : m.cuda().linear_choices()) {
    EXPECT_FALSE(choice.by_library);
    EXPECT_NE(choice.why.find(why), std::string::npos) << choice.why;
  }
  for (const LinearSize& size : hot_sizes()) EXPECT_EQ(result_of(m, size), result_of(own, size));
  EXPECT_TRUE(m.backend->rows_are_independent());
}

TEST_F(LibraryLinearsTest, ASlowOneIsNotUsed) {
  library_.milliseconds = 10.5;
  Machine own = open(false), m = reserve();
  expect_own(m, own, "right, but not quicker");
  EXPECT_GT(m.cuda().linear_choices().front().library_ms, 10);
}

TEST_F(LibraryLinearsTest, AWrongValueIsRefused) {
  library_.fault = StandIn::Fault::kWrongValue;
  Machine own = open(false), m = reserve();
  expect_own(m, own, "refused: row 69, column 47 is ");
}

TEST_F(LibraryLinearsTest, OtherBitsOnASecondRunAreRefused) {
  library_.fault = StandIn::Fault::kOtherBitsEachTime;
  Machine own = open(false), m = reserve();
  expect_own(m, own, "refused: other bits on a second run");
}

TEST_F(LibraryLinearsTest, OneThatRefusesCostsNothingElse) {
  library_.fault = StandIn::Fault::kRefuses;
  Machine own = open(false), m = reserve();
  expect_own(m, own, "refused: no algorithm for this shape");
}

TEST_F(LibraryLinearsTest, ARefusalInAJobIsTheOwnKernelFromThenOn) {
  Machine own = open(false), m = reserve();
  library_.refuses_after = library_.runs + 1;
  const LinearSize size = hot_sizes()[2];
  const std::vector<float> want = result_of(own, size);
  EXPECT_NE(result_of(m, size), want);
  EXPECT_EQ(result_of(m, size), want);
  library_.refuses_after = -1;
  EXPECT_EQ(result_of(m, size), want);
  EXPECT_EQ(m.cuda().linear_choices()[2].why, "refused in a job: no algorithm for this shape");
}

TEST_F(LibraryLinearsTest, AMissingOneIsSaid) {
  Machine m = reserve(false);
  EXPECT_TRUE(m.cuda().linear_choices().empty());
  EXPECT_TRUE(m.backend->rows_are_independent());
  EXPECT_NE(m.backend->describe().find("no library for linear layers: the emulated device has none"),
            std::string::npos);
}

TEST_F(LibraryLinearsTest, WithoutTuneNothingIsTriedOut) {
  Machine m = open(true, false);
  EXPECT_TRUE(m.backend->reserve({.hot_linears = hot_sizes()}).ok());
  EXPECT_TRUE(m.cuda().linear_choices().empty());
  EXPECT_EQ(library_.runs, 0);
}

// ---- What is kept on disk ----

TEST_F(LibraryLinearsTest, ChoicesAreReadAgainWithoutARun) {
  Machine first = reserve();
  EXPECT_GT(library_.runs, 0);
  library_.runs = 0;
  Machine m = reserve();
  EXPECT_EQ(library_.runs, 0);
  ASSERT_EQ(m.cuda().linear_choices().size(), hot_sizes().size());
  EXPECT_EQ(m.cuda().linear_choices()[3].library_ms, first.cuda().linear_choices()[3].library_ms);
  for (const LinearSize& size : hot_sizes()) EXPECT_EQ(result_of(m, size), result_of(first, size));
}

TEST_F(LibraryLinearsTest, MoreShapesAreAddedToTheTable) {
  reserve();
  library_.runs = 0;
  LinearSize more = hot_sizes().front();
  more.rows = 8;
  Machine m = open();
  EXPECT_TRUE(m.backend->reserve({.hot_linears = {more}}).ok());
  EXPECT_GT(library_.runs, 0);
  library_.runs = 0;
  reserve();
  EXPECT_EQ(library_.runs, 0) << "the table of the first job is lost";
}

TEST_F(LibraryLinearsTest, AnotherDriverMakesThemAnew) {
  reserve();
  library_.runs = 0;
  driver_ = "13.1";
  reserve();
  EXPECT_GT(library_.runs, 0);
}

TEST_F(LibraryLinearsTest, AFileOfAnotherKindIsReplaced) {
  for (const char* text : {"garbage", "[]", R"({"format": 2, "cards": []})", R"({"format": 1, "cards": 5})",
                           R"({"format": 1, "cards": [7, {"card": 1}]})", ""}) {
    std::filesystem::create_directories(dir_.file("cache"));
    std::ofstream(file_, std::ios::trunc) << text;
    library_.runs = 0;
    reserve();
    EXPECT_GT(library_.runs, 0) << text;
    library_.runs = 0;
    reserve();
    EXPECT_EQ(library_.runs, 0) << text;
  }
}

TEST_F(LibraryLinearsTest, AFolderThatCannotBeMadeCostsTheProofAlone) {
  std::ofstream(dir_.file("cache")) << "a file where the folder would be";
  Machine m = reserve();
  EXPECT_TRUE(m.cuda().linear_choices().front().by_library);
}

TEST_F(LibraryLinearsTest, TheTableForDoctorSaysWhatIsKept) {
  EmulatedCard card;
  const auto none = make_emulated_runtime(card);
  const std::string no_convs = "library for convolutions: none: the emulated device has none";
  EXPECT_EQ(describe_choices(*none, file_),
            (std::vector<std::string>{"library for linear layers: none: the emulated device has none", no_convs}));
  card.linear_library = [this] { return make_stand_in(library_); };
  const auto runtime = make_emulated_runtime(card);
  EXPECT_EQ(describe_choices(*runtime, file_).size(), 3u);
  reserve();
  const std::vector<std::string> lines = describe_choices(*runtime, file_);
  ASSERT_EQ(lines.size(), 4 + hot_sizes().size());
  EXPECT_EQ(lines.back(), no_convs);
  EXPECT_EQ(lines[0], "library for linear layers: stand-in 1.0");
  EXPECT_EQ(lines[1], "choices, kept in " + file_ + ":");
  EXPECT_EQ(
      lines[3],
      "  linear 70 x 64 -> 48, out bf16, bias                     10.000       1.500  library  right and quicker");
}

// ---- Memory ----

size_t planned_peak(bool tune) {
  Budget host(Budget::DryRun{});
  CudaDevice device(make_planned_runtime(), 0);
  Budget budget(Budget::DryRun{}, device, host);
  auto backend = *CudaBackend::open(device, {.tune = tune, .budget = &budget});
  EXPECT_TRUE(backend->reserve({.hot_linears = hot_sizes()}).ok());
  return budget.peak_bytes();
}

TEST_F(LibraryLinearsTest, TakesWhatWasPlannedWithAndWithoutALibrary) {
  const size_t planned = planned_peak(true);
  EXPECT_GT(planned, kLibraryWorkspaceBytes);
  EXPECT_EQ(planned_peak(false), 0u);
  for (const bool has_library : {true, false, true}) {  // at last from the file
    Budget host;
    Machine m = open(has_library);
    Budget budget(planned, *m.device, host);
    m.backend = *CudaBackend::open(*m.device, {.tune = true, .choices_file = file_, .budget = &budget});
    const Status status = m.backend->reserve({.hot_linears = hot_sizes()});
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(budget.peak_bytes(), planned);
    EXPECT_LT(budget.used_bytes(), planned) << "the operands are freed";
    m.backend->release_scratch();
    EXPECT_EQ(budget.used_bytes(), 0u);
    m.backend.reset();
  }
}

TEST_F(LibraryLinearsTest, WithoutMemoryForTheOperandsNothingIsTriedOut) {
  Budget host;
  Machine m = open();
  Budget budget(planned_peak(true) - 4096, *m.device, host);
  m.backend = *CudaBackend::open(*m.device, {.tune = true, .choices_file = file_, .budget = &budget});
  EXPECT_TRUE(m.backend->reserve({.hot_linears = hot_sizes()}).ok());
  EXPECT_EQ(library_.runs, 0);
  EXPECT_TRUE(m.cuda().linear_choices().empty()) << "a later video tries";
  m.backend.reset();
  reserve();
  EXPECT_GT(library_.runs, 0) << "that is not kept";
}

}  // namespace
}  // namespace liveavatar::cuda
