// Convolutions by a library: used where it is right and quicker, and never to the harm of a result.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/cuda/choice_table.h"
#include "backend/cuda/conv_by_library.h"
#include "backend/cuda/emulated/emulated_runtime.h"
#include "backend/cuda/planned_runtime.h"
#include "machine.h"
#include "stand_in_library.h"
#include "support/operands.h"
#include "support/temp_dir.h"

namespace liveavatar::cuda {
namespace {

VideoConvSize size_of(int64_t frames, int64_t out_channels) {
  VideoConvSize s{frames, 6, 10, 16, out_channels, {3, 3, 3}};
  s.x = s.weights = s.out = DType::kBF16;
  return s;
}
// As the VAE has them: over several frames, of one, in place, and doubled.
std::vector<VideoConvSize> hot_sizes() {
  std::vector<VideoConvSize> sizes{size_of(4, 24), size_of(1, 16), size_of(2, 16), size_of(1, 8)};
  sizes[2].residual = true;
  sizes[3].kernel = {1, 3, 3};
  sizes[3].upsample2x = true;
  return sizes;
}

class LibraryConvsTest : public ::testing::Test {
 protected:
  // Of a card that has the stand-in, or no library.
  Machine open(bool has_library = true, bool tune = true) {
    EmulatedCard card;
    if (has_library) card.conv_library = [this] { return make_conv_stand_in(library_); };
    if (has_linears_) card.linear_library = [this] { return make_stand_in(linears_); };
    Machine m;
    m.device = std::make_unique<CudaDevice>(make_emulated_runtime(card), 0);
    m.backend = *CudaBackend::open(*m.device, {.tune = tune, .choices_file = file_});
    return m;
  }
  Machine reserve(bool has_library = true) {
    Machine m = open(has_library);
    const Status status = m.backend->reserve({.hot_convs = hot_sizes()});
    EXPECT_TRUE(status.ok()) << status.message();
    return m;
  }

  TempDir dir_;
  std::string file_ = dir_.file("choices.json");
  StandIn library_, linears_;
  bool has_linears_ = false;
};

// A convolution of random operands, the same in every call.
std::vector<float> run(Machine& m, const VideoConvSize& s) {
  Operands host;
  DeviceOperands on_device(m);
  ConvWeight w{nullptr, s.weights, s.out_channels, s.in_channels, s.kernel};
  const Tensor packed = host.zeros({int64_t(m.backend->packed_conv_bytes(w))}, DType::kU8);
  m.backend->pack_conv(
      host.normal({s.out_channels, s.in_channels, s.kernel[0], s.kernel[1], s.kernel[2]}, DType::kBF16, 0.0625f), w,
      packed.address());
  w.data = on_device(packed).address();
  w.bias = on_device(host.normal({s.out_channels}));
  const int64_t scale = s.upsample2x ? 2 : 1, rows = s.rows / scale, columns = s.columns / scale;
  ConvGeometry g{.upsample2x = s.upsample2x};
  g.pad_top = g.pad_bottom = g.pad_left = g.pad_right = 1;
  if (s.kernel[0] > 1) g.history = on_device(host.normal({s.kernel[0] - 1, rows, columns, s.in_channels}, s.x));
  const Tensor x = on_device(host.normal({s.frames, rows, columns, s.in_channels}, s.x));
  const Tensor out = on_device(host.normal({s.frames, s.rows, s.columns, s.out_channels}, s.out));
  Epilogue e;
  if (s.residual) e.residual = out;
  m.backend->conv(x, w, g, out, e);
  const Tensor got = host.zeros(out.shape, s.out);
  m.backend->download(out, got.address());
  return liveavatar::floats(got);
}
std::vector<float> result_of(Machine& m, const VideoConvSize& s) {
  const std::vector<float> result = run(m, s);
  EXPECT_TRUE(m.device->status().ok()) << m.device->status().message();
  return result;
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

// Every hot convolution stays our kernel's, to the bit, and each choice says why.
void expect_own(Machine& m, Machine& own, const std::string& why) {
  for (const LibraryChoice& choice : m.cuda().conv_choices()) {
    EXPECT_FALSE(choice.by_library);
    EXPECT_NE(choice.why.find(why), std::string::npos) << choice.why;
  }
  for (const VideoConvSize& size : hot_sizes()) EXPECT_EQ(result_of(m, size), result_of(own, size));
  EXPECT_TRUE(m.backend->rows_are_independent());
}

TEST_F(LibraryConvsTest, ARightAndQuickerOneIsUsed) {
  Machine own = open(false), m = reserve();
  ASSERT_EQ(m.cuda().conv_choices().size(), hot_sizes().size());
  for (const LibraryChoice& choice : m.cuda().conv_choices()) {
    EXPECT_TRUE(choice.by_library) << choice.what << ": " << choice.why;
    EXPECT_EQ(choice.own_ms, 10);
  }
  // Two copies, two parts and the bias; four copies to double a frame.
  EXPECT_EQ(m.cuda().conv_choices()[0].library_ms, 4);
  EXPECT_EQ(m.cuda().conv_choices()[3].library_ms, 5.5);
  for (const VideoConvSize& size : hot_sizes()) {
    const int before = library_.runs;
    const std::vector<float> got = result_of(m, size), want = result_of(own, size);
    EXPECT_EQ(library_.runs, before + (size.frames == 4 ? 2 : 1));
    EXPECT_NE(got, want) << "roundings differ";
    EXPECT_LE(distance(got, want), 0x1p-7);
  }
  EXPECT_FALSE(m.backend->rows_are_independent());
  EXPECT_NE(m.backend->describe().find("stand-in 1.0 for 4 of 4 kinds of convolutions"), std::string::npos);
}

TEST_F(LibraryConvsTest, OtherConvolutionsAreTheOwnKernels) {
  Machine own = open(false), m = reserve();
  std::vector<VideoConvSize> others(5, hot_sizes().front());
  others[0].frames = 2;  // of a video's first step
  others[1].x = DType::kF32;
  others[2].out = DType::kF32;
  others[3].out_channels = 3;  // of the last one
  others[4].residual = true;
  const int before = library_.runs;
  for (const VideoConvSize& size : others) EXPECT_EQ(result_of(m, size), result_of(own, size));
  EXPECT_EQ(library_.runs, before);
}

TEST_F(LibraryConvsTest, KindsThatNoLibraryIsAskedFor) {
  const VideoConvSize good = size_of(4, 24);
  EXPECT_TRUE(library_class(good));
  std::vector<VideoConvSize> bad(5, good);
  bad[0].frames = 3;          // no whole parts of two
  bad[1].in_channels = 12;    // packed weights have padding
  bad[2].kernel = {3, 2, 3};  // it does not keep the size
  bad[3].weights = DType::kF32;
  bad[4].upsample2x = true;  // and history
  for (const VideoConvSize& size : bad) EXPECT_FALSE(library_class(size));
}

TEST_F(LibraryConvsTest, ASlowOneIsNotUsed) {
  library_.milliseconds = 10.5;
  Machine own = open(false), m = reserve();
  expect_own(m, own, "right, but not quicker");
}

TEST_F(LibraryConvsTest, AWrongValueIsRefused) {
  library_.fault = StandIn::Fault::kWrongValue;
  Machine own = open(false), m = reserve();
  expect_own(m, own, "refused: row ");
  EXPECT_NE(m.cuda().conv_choices()[1].why.find("refused: row 59, column 15 is "), std::string::npos);
}

TEST_F(LibraryConvsTest, OtherBitsOnASecondRunAreRefused) {
  library_.fault = StandIn::Fault::kOtherBitsEachTime;
  Machine m = open();
  EXPECT_TRUE(m.backend->reserve({.hot_convs = {hot_sizes()[1]}}).ok());
  EXPECT_EQ(m.cuda().conv_choices().front().why, "refused: other bits on a second run");
}

TEST_F(LibraryConvsTest, OneThatRefusesCostsNothingElse) {
  library_.fault = StandIn::Fault::kRefuses;
  Machine own = open(false), m = reserve();
  expect_own(m, own, "refused: no algorithm for this shape");
}

TEST_F(LibraryConvsTest, ARefusalInAJobIsTheOwnKernelFromThenOn) {
  Machine own = open(false), m = reserve();
  const VideoConvSize size = hot_sizes()[2];
  library_.refuses_after = library_.runs;
  EXPECT_EQ(result_of(m, size), result_of(own, size)) << "what it adds to is as it was";
  EXPECT_EQ(m.cuda().conv_choices()[2].why, "refused in a job: no algorithm for this shape");
}

// A part is done, and cannot be undone where it adds.
TEST_F(LibraryConvsTest, AFailureHalfwayEndsTheJob) {
  Machine m = open();
  VideoConvSize size = size_of(4, 16);
  size.residual = true;
  EXPECT_TRUE(m.backend->reserve({.hot_convs = {size}}).ok());
  library_.refuses_after = library_.runs + 1;
  run(m, size);
  EXPECT_EQ(m.device->status().message(), "cuda:0: no algorithm for this shape");
}

TEST_F(LibraryConvsTest, AMissingOneIsSaid) {
  Machine m = reserve(false);
  EXPECT_TRUE(m.cuda().conv_choices().empty());
  EXPECT_NE(m.backend->describe().find("no library for convolutions: the emulated device has none"), std::string::npos);
}

TEST_F(LibraryConvsTest, WithoutTuneNothingIsTriedOut) {
  Machine m = open(true, false);
  EXPECT_TRUE(m.backend->reserve({.hot_convs = hot_sizes()}).ok());
  EXPECT_TRUE(m.cuda().conv_choices().empty());
  EXPECT_EQ(library_.runs, 0);
}

// Each kind of op has a table of its own in one file.
TEST_F(LibraryConvsTest, ChoicesAreKeptBesideThoseOfLinearLayers) {
  has_linears_ = true;
  const LinearSize linear{70, 48, 64, DType::kBF16, DType::kBF16, DType::kBF16};
  const auto reserve_both = [&] {
    Machine m = open();
    EXPECT_TRUE(m.backend->reserve({.hot_linears = {linear}, .hot_convs = hot_sizes()}).ok());
    return m;
  };
  const Machine first = reserve_both();
  EXPECT_GT(library_.runs, 0);
  library_.runs = linears_.runs = 0;
  Machine m = reserve_both();
  EXPECT_EQ(library_.runs, 0);
  EXPECT_EQ(linears_.runs, 0);
  EXPECT_EQ(m.cuda().conv_choices().size(), hot_sizes().size());
  const std::vector<std::string> lines = describe_choices(m.device->runtime(), file_);
  ASSERT_EQ(lines.size(), 7 + hot_sizes().size());
  EXPECT_EQ(lines[4], "library for convolutions: stand-in 1.0");
  EXPECT_EQ(lines[7].find("  conv 4 x 6 x 10, 16 -> 24, 3 x 3 x 3  "), 0u) << lines[7];
}

// ---- Memory ----

TEST_F(LibraryConvsTest, TakesWhatWasPlannedWithAndWithoutALibrary) {
  size_t planned = 0;
  {
    Budget host(Budget::DryRun{});
    CudaDevice device(make_planned_runtime(), 0);
    Budget budget(Budget::DryRun{}, device, host);
    auto backend = *CudaBackend::open(device, {.tune = true, .budget = &budget});
    EXPECT_TRUE(backend->reserve({.hot_convs = hot_sizes()}).ok());
    planned = budget.peak_bytes();
  }
  EXPECT_GT(planned, kConvWorkspaceBytes);
  for (const bool has_library : {true, false, true}) {  // at last from the file
    Budget host;
    Machine m = open(has_library);
    Budget budget(planned, *m.device, host);
    m.backend = *CudaBackend::open(*m.device, {.tune = true, .choices_file = file_, .budget = &budget});
    const Status status = m.backend->reserve({.hot_convs = hot_sizes()});
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(budget.peak_bytes(), planned);
    m.backend->release_scratch();
    EXPECT_EQ(budget.used_bytes(), 0u);
    m.backend.reset();
  }
}

TEST_F(LibraryConvsTest, ScratchGoesBackWithTheLastUser) {
  for (const bool has_library : {true, false}) {
    Budget host;
    Machine m = open(has_library);
    Budget budget(Budget::kUnlimited, *m.device, host);
    m.backend = *CudaBackend::open(*m.device, {.tune = true, .choices_file = file_, .budget = &budget});
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(m.backend->reserve({.hot_convs = hot_sizes()}).ok());
    m.backend->end_hot_convs();
    EXPECT_GT(budget.used_bytes(), kConvWorkspaceBytes);
    m.backend->end_hot_convs();
    EXPECT_EQ(budget.used_bytes(), 0u);
    EXPECT_TRUE(m.backend->reserve({.hot_convs = hot_sizes()}).ok());
    EXPECT_GT(budget.used_bytes(), kConvWorkspaceBytes) << "for the next stream";
    m.backend.reset();
  }
}

// History and a part of the input; a frame that is doubled, and half of it on the way.
TEST_F(LibraryConvsTest, ScratchHoldsAnInput) {
  const int64_t frame_bytes = 6 * 10 * 16 * 2;
  const auto scratch = [](const VideoConvSize& size) {
    return static_cast<int64_t>(library_scratch_bytes(*library_class(size)) - kConvWorkspaceBytes);
  };
  EXPECT_EQ(scratch(hot_sizes()[0]), 4 * frame_bytes);
  EXPECT_EQ(scratch(hot_sizes()[1]), 3 * frame_bytes);
  EXPECT_EQ(scratch(hot_sizes()[3]), frame_bytes + frame_bytes / 2);
}

}  // namespace
}  // namespace liveavatar::cuda
