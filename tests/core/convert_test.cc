// Conversions against brute force, and the budget and the pool under several threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>

#include "core/memory.h"
#include "core/quantise.h"
#include "core/threads.h"

namespace liveavatar {
namespace {

float random_float(std::mt19937& random) { return std::bit_cast<float>(static_cast<uint32_t>(random())); }

// Nearest of all finite values of a 16-bit type; ties go to the even bit pattern. Returns the candidates' bits.
template <typename T>
uint16_t nearest_by_search(float x) {
  // Positive finite values of both types ascend with their bits.
  uint16_t low = 0, high = std::is_same_v<T, bf16> ? 0x7f7f : 0x7bff;
  float size = std::fabs(x);
  while (low < high) {
    uint16_t middle = static_cast<uint16_t>((low + high + 1) / 2);
    if (to_f32(T{middle}) <= size)
      low = middle;
    else
      high = static_cast<uint16_t>(middle - 1);
  }
  double below = size - double(to_f32(T{low})), above = double(to_f32(T{static_cast<uint16_t>(low + 1)})) - size;
  uint16_t bits = below < above || (below == above && low % 2 == 0) ? low : static_cast<uint16_t>(low + 1);
  return std::signbit(x) ? static_cast<uint16_t>(bits | 0x8000) : bits;
}

// Every code comes back, and every float goes to one of its two neighbours, the nearer one.
TEST(Convert, RoundsToTheNearestE4m3) {
  std::vector<float> all;  // positive values ascend with their bits
  for (uint8_t code = 0; code < 0x7f; ++code) {
    all.push_back(to_f32(f8e4m3{code}));
    EXPECT_EQ(to_f8e4m3(all.back()).bits, code);
    EXPECT_EQ(to_f32(f8e4m3{static_cast<uint8_t>(code | 0x80)}), -all.back());
  }
  EXPECT_EQ(all[1], 0x1p-9f);
  EXPECT_EQ(all[8], 0x1p-6f);
  EXPECT_EQ(all.back(), 448.0f);
  std::mt19937 random(3);
  std::uniform_real_distribution<float> exponent(-14, 9.2f);
  for (int i = 0; i < 200'000; ++i) {
    float x = std::exp2(exponent(random)), got = to_f32(to_f8e4m3(x)), best = all[0];
    for (float v : all) best = std::fabs(v - x) < std::fabs(best - x) ? v : best;
    EXPECT_EQ(std::fabs(got - x), std::fabs(best - x)) << x;
    EXPECT_EQ(to_f32(to_f8e4m3(-x)), -got);
  }
  EXPECT_EQ(to_f8e4m3(0x1.1p0f).bits, to_f8e4m3(1.0f).bits);  // ties go to the even code
  EXPECT_EQ(to_f8e4m3(0x1.3p0f).bits, to_f8e4m3(1.25f).bits);
  EXPECT_EQ(to_f8e4m3(INFINITY).bits, 0x7e);
  EXPECT_TRUE(std::isnan(to_f32(to_f8e4m3(NAN))));
}

double q4_error(const float* values, float scale) {
  double error = 0;
  for (int64_t i = 0; i < kQ4Block; ++i)
    error += std::pow(double(scale) * std::clamp(std::nearbyint(double(values[i]) / scale), -8.0, 7.0) - values[i], 2);
  return error;
}

// scale * code of a 4-bit block fits bf16 exactly, and of the scales with four significant bits around an eighth of the
// largest value none does better.
TEST(Quantise, FourBitBlocksHaveTheLeastError) {
  std::mt19937 random(5);
  for (float spread : {1e-20f, 3e-4f, 1.0f, 1e18f}) {
    std::normal_distribution<float> normal(0, spread);
    for (int round = 0; round < 200; ++round) {
      float values[kQ4Block], top = 0;
      uint8_t codes[kQ4Block];
      for (float& v : values) v = normal(random);
      for (float v : values) top = std::fabs(v) > std::fabs(top) ? v : top;
      float scale = to_f32(quantise_q4(values, kQ4Block, codes));
      double error = 0, best = INFINITY;
      for (int64_t i = 0; i < kQ4Block; ++i) {
        ASSERT_LT(codes[i], 16);
        float back = scale * float(codes[i] - kQ4Zero);
        EXPECT_EQ(to_f32(to_bf16(back)), back);
        error += std::pow(double(back) - values[i], 2);
      }
      for (int exponent = -90; exponent < 90; ++exponent) {
        for (int significand = 8; significand < 16; ++significand) {
          float size = std::ldexp(float(significand), exponent);
          if (size < std::fabs(top) / 9 || size > std::fabs(top) / 6) continue;
          best = std::min(best, q4_error(values, std::copysign(size, -top)));
        }
      }
      EXPECT_LE(error, best * 1.0001);
    }
  }
}

TEST(Convert, RoundsToTheNearestBf16) {
  std::mt19937 random(1);
  for (int i = 0; i < 200'000; ++i) {
    float x = random_float(random);
    if (!(std::fabs(x) < 3.38e38f)) continue;
    ASSERT_EQ(to_bf16(x).bits, nearest_by_search<bf16>(x)) << x;
  }
}

TEST(Convert, RoundsToTheNearestF16) {
  std::mt19937 random(2);
  std::uniform_real_distribution<float> exponent(-27, 15.9f), sign(-1, 1);
  for (int i = 0; i < 200'000; ++i) {
    float x = std::copysign(std::exp2(exponent(random)), sign(random));
    ASSERT_EQ(to_f16(x).bits, nearest_by_search<f16>(x)) << x;
  }
  // Halves between neighbours, denormals among them.
  for (uint16_t bits = 0; bits < 0x7bff; ++bits) {
    float half = (to_f32(f16{bits}) + to_f32(f16{static_cast<uint16_t>(bits + 1)})) / 2;
    ASSERT_EQ(to_f16(half).bits, bits % 2 == 0 ? bits : bits + 1) << half;
  }
}

TEST(Convert, EveryBf16RoundTripsThroughF32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float wide = to_f32(bf16{static_cast<uint16_t>(bits)});
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(to_f32(to_bf16(wide))));
    } else {
      ASSERT_EQ(to_bf16(wide).bits, bits);
    }
  }
  EXPECT_TRUE(std::isnan(to_f32(to_f16(NAN))));
  // A NaN whose payload lies only in the bits that are dropped stays a NaN.
  EXPECT_TRUE(std::isnan(to_f32(to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

template <typename T>
void expect_wide(DType type, std::initializer_list<T> values, std::initializer_list<float> want) {
  // One byte off: tensors inside files need not be aligned.
  std::vector<char> bytes(values.size() * sizeof(T) + 1);
  std::memcpy(bytes.data() + 1, values.begin(), values.size() * sizeof(T));
  std::vector<float> got(values.size());
  convert_to_f32(bytes.data() + 1, type, got.data(), static_cast<int64_t>(values.size()));
  EXPECT_EQ(got, std::vector<float>(want)) << dtype_name(type);
  EXPECT_EQ(dtype_bytes(type), sizeof(T));
}

TEST(Convert, ConvertsEveryTypeToF32) {
  expect_wide<float>(DType::kF32, {1.5f, -2.0f}, {1.5f, -2.0f});
  expect_wide<double>(DType::kF64, {0.1, -1e300}, {0.1f, -INFINITY});
  expect_wide<uint16_t>(DType::kBF16, {0x3fc0, 0xc000}, {1.5f, -2.0f});
  expect_wide<uint16_t>(DType::kF16, {0x3e00, 0xc000, 0x0001}, {1.5f, -2.0f, 0x1p-24f});
  expect_wide<int64_t>(DType::kI64, {-3, int64_t{1} << 40}, {-3.0f, 0x1p40f});
  expect_wide<int32_t>(DType::kI32, {-3, 70000}, {-3.0f, 70000.0f});
  expect_wide<int16_t>(DType::kI16, {-300, 300}, {-300.0f, 300.0f});
  expect_wide<int8_t>(DType::kI8, {-3, 127}, {-3.0f, 127.0f});
  expect_wide<uint8_t>(DType::kU8, {3, 255}, {3.0f, 255.0f});
  expect_wide<uint8_t>(DType::kBool, {0, 1}, {0.0f, 1.0f});
}

TEST(Convert, ConvertsF32ToEveryType) {
  const float in[] = {1.5f, -2.0f};
  float wide[2];
  uint16_t narrow[2];
  convert_from_f32(in, wide, DType::kF32, 2);
  EXPECT_EQ(wide[1], -2.0f);
  convert_from_f32(in, narrow, DType::kBF16, 2);
  EXPECT_EQ(narrow[0], 0x3fc0);
  convert_from_f32(in, narrow, DType::kF16, 2);
  EXPECT_EQ(narrow[0], 0x3e00);
}

TEST(Buffer, IsZeroedAndMovableAndTheEmptyOneHasNoData) {
  Budget budget;
  Buffer a = *Buffer::allocate(budget, MemoryCategory::kMedia, 100);
  EXPECT_TRUE(std::all_of(a.data(), a.data() + a.bytes(), [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data()) % 4096, 0u);
  std::byte* memory = a.data();
  Buffer b = std::move(a);
  EXPECT_EQ(b.data(), memory);
  EXPECT_EQ(budget.used_bytes(MemoryCategory::kMedia), 4096u);
  b = Buffer();
  EXPECT_EQ(budget.used_bytes(), 0u);
  EXPECT_EQ(Buffer::allocate(budget, MemoryCategory::kMedia, 0)->data(), nullptr);
}

TEST(Budget, NeverExceedsItsLimitWithManyThreads) {
  Budget budget(100 * 4096);
  std::atomic<int> refused = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      for (int i = 0; i < 2000; ++i) {
        size_t bytes = (random() % 60 + 1) * 4096;
        if (!budget.charge(MemoryCategory::kVae, bytes).ok()) {
          ++refused;
          continue;
        }
        EXPECT_LE(budget.used_bytes(), budget.limit_bytes());
        budget.release(MemoryCategory::kVae, bytes);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(budget.used_bytes(), 0u);
  EXPECT_EQ(budget.used_bytes(MemoryCategory::kVae), 0u);
  EXPECT_LE(budget.peak_bytes(), budget.limit_bytes());
}

TEST(Budget, RefusesASizeThatWouldOverflow) {
  Budget budget(1 << 20);
  EXPECT_FALSE(budget.charge(MemoryCategory::kWeights, std::numeric_limits<size_t>::max()).ok());
  ASSERT_TRUE(budget.charge(MemoryCategory::kWeights, 1 << 19).ok());
  EXPECT_FALSE(budget.charge(MemoryCategory::kWeights, std::numeric_limits<size_t>::max() - 5).ok());
  EXPECT_EQ(budget.used_bytes(), size_t{1} << 19);
  budget.release(MemoryCategory::kWeights, 1 << 19);
}

TEST(ThreadPool, GivesEachThreadItsOwnIndex) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  for (int round = 0; round < 300; ++round) {
    pool.parallel_for(64, 1, [&](int64_t, int64_t, int thread) {
      EXPECT_EQ(inside[static_cast<size_t>(thread)].fetch_add(1), 0);
      inside[static_cast<size_t>(thread)].fetch_sub(1);
    });
  }
}

TEST(ThreadPool, SerializesConcurrentCallers) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum = 0;
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        pool.parallel_for(100, 7, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
      }
    });
  }
  for (std::thread& c : callers) c.join();
  EXPECT_EQ(sum, 3 * 200 * 100);
}

TEST(ThreadPool, ZeroThreadsMeansAllCpusOfTheProcess) { EXPECT_GE(ThreadPool().threads(), 1); }

}  // namespace
}  // namespace liveavatar
