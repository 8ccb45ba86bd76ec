// Budgets inside a budget: what was admitted is kept, whatever the others do.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "core/memory.h"

namespace liveavatar {
namespace {

constexpr size_t kKiB = 1 << 10;

TEST(NestedBudget, ReservesItsLimitInTheParent) {
  Budget parent(100 * kKiB);
  auto session = *Budget::open_within(parent, 60 * kKiB);
  EXPECT_EQ(parent.left_bytes(), 40 * kKiB);
  EXPECT_EQ(parent.used_bytes(), 0u);
  EXPECT_EQ(parent.charge(MemoryCategory::kVae, 41 * kKiB).code(), ErrorCode::kOutOfMemory);
  auto too_large = Budget::open_within(parent, 41 * kKiB);
  ASSERT_EQ(too_large.status().code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(parent.left_bytes(), 40 * kKiB);
  ASSERT_TRUE(parent.charge(MemoryCategory::kVae, 40 * kKiB).ok());
  EXPECT_TRUE(session->charge(MemoryCategory::kVae, 60 * kKiB).ok());  // although the parent has nothing left
  EXPECT_EQ(session->charge(MemoryCategory::kVae, 1).code(), ErrorCode::kOutOfMemory);
  session->release(MemoryCategory::kVae, 60 * kKiB);
  session.reset();
  EXPECT_EQ(parent.left_bytes(), 60 * kKiB);
  parent.release(MemoryCategory::kVae, 40 * kKiB);
}

TEST(NestedBudget, CountsInBoth) {
  Budget parent(100 * kKiB);
  for (size_t limit : {50 * kKiB, Budget::kUnlimited}) {
    auto session = *Budget::open_within(parent, limit);
    {
      const Buffer text = *Buffer::allocate(*session, MemoryCategory::kText, 8 * kKiB);
      EXPECT_EQ(session->used_bytes(MemoryCategory::kText), 8 * kKiB);
      EXPECT_EQ(parent.used_bytes(MemoryCategory::kText), 8 * kKiB);
    }
    EXPECT_EQ(parent.used_bytes(), 0u);
    EXPECT_EQ(session->peak_bytes(), 8 * kKiB);
  }
  EXPECT_EQ(parent.peak_bytes(), 8 * kKiB);
  EXPECT_EQ(parent.left_bytes(), 100 * kKiB);
}

TEST(NestedBudget, WithoutALimitItHasWhatTheParentHas) {
  Budget parent(100 * kKiB);
  auto session = *Budget::open_within(parent, Budget::kUnlimited);
  ASSERT_TRUE(parent.charge(MemoryCategory::kVae, 60 * kKiB).ok());
  EXPECT_EQ(session->charge(MemoryCategory::kText, 41 * kKiB).code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(session->used_bytes(), 0u);
  ASSERT_TRUE(session->charge(MemoryCategory::kText, 40 * kKiB).ok());
  EXPECT_EQ(parent.left_bytes(), 0u);
  session->release(MemoryCategory::kText, 40 * kKiB);
  EXPECT_EQ(parent.left_bytes(), 40 * kKiB);
  parent.release(MemoryCategory::kVae, 60 * kKiB);
}

TEST(NestedBudget, ManyThreadsNeverExceedTheParent) {
  Budget parent(64 * kKiB);
  std::vector<std::jthread> threads;
  std::atomic<bool> broken{false};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&parent, &broken, i] {
      for (int n = 0; n < 500; ++n) {
        auto session = Budget::open_within(parent, i % 2 == 0 ? 24 * kKiB : Budget::kUnlimited);
        if (!session.ok()) continue;
        const Status status = (*session)->charge(MemoryCategory::kAudio, 20 * kKiB);
        if (i % 2 == 0 && !status.ok()) broken = true;  // it was admitted
        if (status.ok()) (*session)->release(MemoryCategory::kAudio, 20 * kKiB);
      }
    });
  }
  threads.clear();
  EXPECT_FALSE(broken);
  EXPECT_LE(parent.peak_bytes(), 64 * kKiB);
  EXPECT_EQ(parent.left_bytes(), 64 * kKiB);
  EXPECT_EQ(parent.used_bytes(), 0u);
}

// Decoding beside sampling: two threads of one session.
TEST(NestedBudget, TwoThreadsOfASessionNeverExceedItsLimitInTheParent) {
  Budget parent(100 * kKiB);
  auto session = *Budget::open_within(parent, 30 * kKiB);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&session] {
        for (int n = 0; n < 20000; ++n) {
          if (session->charge(MemoryCategory::kVae, 20 * kKiB).ok()) session->release(MemoryCategory::kVae, 20 * kKiB);
        }
      });
    }
  }
  EXPECT_LE(parent.peak_bytes(), 30 * kKiB);
  EXPECT_EQ(parent.left_bytes(), 70 * kKiB);
}

TEST(NestedBudgetDeathTest, ABudgetThatDiesBeforeItsMemoryAsserts) {
  EXPECT_DEATH(
      {
        auto budget = std::make_unique<Budget>();
        auto memory = *Buffer::allocate(*budget, MemoryCategory::kVae, 4096);
        budget.reset();
      },
      "broken contract");
}

}  // namespace
}  // namespace liveavatar
