// The 14B model under the budgets of cards that people own, on a card that computes nothing: it never has more than its
// budget, the peak is the plan's, and as many bytes go over the link as the plan says.
#include <gtest/gtest.h>

#include <algorithm>

#include "pipeline/bench.h"
#include "support/weightless_card.h"

namespace liveavatar {
namespace {

constexpr size_t kGib = size_t{1} << 30;

BenchOptions bench_14b(size_t budget_bytes) {
  BenchOptions o;
  o.shape.shapes = *named_model_shapes("14b");
  o.shape.device = "cuda";
  o.shape.threads = 2;
  o.shape.tune = Tune::kOff;  // a library's memory is in the plan whether there is one or not
  o.shape.height = o.shape.image_height = 256;
  o.shape.width = o.shape.image_width = 384;
  o.shape.blocks = 8;
  o.limits.device_bytes = budget_bytes;
  return o;
}

// A page or two may be on their way that nobody used.
void expect_moved(uint64_t moved_bytes, double planned_bytes, size_t page_bytes) {
  EXPECT_GE(double(moved_bytes) + 2 * double(page_bytes), planned_bytes);
  EXPECT_LE(double(moved_bytes), planned_bytes + 2 * double(page_bytes));
}

class CardBudgetTest : public ::testing::TestWithParam<size_t> {};

TEST_P(CardBudgetTest, HoldsThe14BModel) {
  const size_t budget_bytes = GetParam() * kGib;
  WeightlessCard card(budget_bytes);
  BenchOptions o = bench_14b(budget_bytes);
  o.device = &card;
  const Expected<BenchResult> made = run_bench(o);
  ASSERT_TRUE(made.ok()) << made.status().message();
  const BenchResult& b = *made;
  EXPECT_TRUE(b.shape.layers_in_host);
  EXPECT_EQ(b.charged_peak_bytes, b.predicted_peak_bytes);
  EXPECT_LE(card.use().peak_bytes, budget_bytes);
  EXPECT_EQ(card.use().peak_bytes, b.predicted_peak_bytes);
  EXPECT_EQ(b.host_charged_peak_bytes, b.plan.host.peak_bytes);
  // What is left would not hold another layer.
  EXPECT_GT(double(b.predicted_peak_bytes) + 1.1 * double(kGib), double(budget_bytes));
  const size_t page = 315 << 20;
  const uint64_t kv_bytes = b.kv_caches.bytes_to_device + b.kv_caches.bytes_from_device;
  // A KV cache has four slots, a block each. Every block writes one and reads the others, as far as they are filled.
  constexpr int64_t kSlots = 4;
  double slots = 0;
  for (int64_t block = 0; block < b.shape.blocks; ++block) slots += double(std::min(block, kSlots - 1) + 1);
  const size_t cache_bytes = kv_cache_bytes_per_block(b.shape.kv_caches(), 1);
  EXPECT_TRUE(b.shape.kv_caches_paged());
  expect_moved(kv_bytes, double(b.plan.kv_cache_bytes) / double(kSlots) * slots, cache_bytes);
  expect_moved(b.weights.bytes_to_device, double(b.plan.paged_bytes) * double(b.ticks), page);
  EXPECT_EQ(b.weights.bytes_read, 0u);
  EXPECT_GE(card.use().to_card_bytes, b.weights.bytes_to_device + b.kv_caches.bytes_to_device);
  std::printf("%zu GiB: %ld layers, %ld KV caches on the card; peak %.3f GiB, %.3f GB a tick\n", GetParam(),
              long(b.shape.resident()), long(b.shape.kv_caches().in_memory()), double(card.use().peak_bytes) / kGib,
              double(b.weights.bytes_to_device) / double(b.ticks) / 1e9);
}

INSTANTIATE_TEST_SUITE_P(Cards, CardBudgetTest, ::testing::Values(8, 12, 16, 24),
                         [](const auto& budget) { return std::to_string(budget.param) + "GiB"; });

}  // namespace
}  // namespace liveavatar
