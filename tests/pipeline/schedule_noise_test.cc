#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "session/noise.h"
#include "session/solver.h"

namespace liveavatar {
namespace {

TEST(Schedule, TheFourStepsOfTheOriginal) {
  auto schedule = make_schedule(SampleSolver::kEuler, 4, 3.0);
  ASSERT_TRUE(schedule.ok());
  const double want[] = {1000, 857.692, 602.151, 8.92857};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(schedule->timesteps[i], want[i], 1e-3);
  EXPECT_EQ(schedule->sigmas.back(), 0);
}

TEST(Schedule, RefusesInvalidParameters) {
  EXPECT_FALSE(make_schedule(SampleSolver::kEuler, 0, 3).ok());
  EXPECT_NE(make_schedule(SampleSolver::kEuler, 1001, 3).status().message().find("choose 1 to 1000"),
            std::string::npos);
  auto longest = make_schedule(SampleSolver::kEuler, 1000, 3);
  ASSERT_TRUE(longest.ok());
  ASSERT_EQ(longest->timesteps.size(), 1000u);
  for (size_t i = 0; i < 1000; ++i) EXPECT_GT(longest->sigmas[i], longest->sigmas[i + 1]) << i;
  EXPECT_FALSE(make_schedule(SampleSolver::kEuler, 4, 0).ok());
  EXPECT_FALSE(make_schedule(SampleSolver::kEuler, 4, NAN).ok());
}

// Known answers of the authors' Random123 distribution.
TEST(Noise, PhiloxKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kAll = 0xffffffff;
  EXPECT_EQ(philox({kAll, kAll, kAll, kAll}, {kAll, kAll}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // Digits of pi: the only one of the three that sees two words change places.
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Noise, IsNormallyDistributed) {
  std::vector<float> x(200'000);
  fill_noise(42, 7, x);
  double mean = 0, variance = 0, fourth = 0;
  for (float v : x) mean += v;
  mean /= double(x.size());
  for (float v : x) variance += (v - mean) * (v - mean);
  variance /= double(x.size());
  for (float v : x) fourth += std::pow((v - mean) / std::sqrt(variance), 4);
  EXPECT_NEAR(mean, 0, 0.01);
  EXPECT_NEAR(variance, 1, 0.015);
  EXPECT_NEAR(fourth / double(x.size()), 3, 0.06);
}

TEST(Noise, DiffersBySeedAndBlockAndNotByLength) {
  std::vector<float> a(10'001), b(10'001), c(10'001), part(33);
  fill_noise(1, 0, a);
  fill_noise(1, 1, b);
  fill_noise(2, 0, c);
  fill_noise(1, 0, part);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), a.begin()));
  auto correlation = [](const auto& x, const auto& y) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += double(x[i]) * y[i];
    return std::fabs(sum / double(x.size()));
  };
  EXPECT_LT(correlation(a, b), 0.04);
  EXPECT_LT(correlation(a, c), 0.04);
  EXPECT_NE(random_bits(1, 0, 0), random_bits(1, 0, 1));
}

}  // namespace
}  // namespace liveavatar
