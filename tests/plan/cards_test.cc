// Cards that are not here: their numbers, and what is predicted of a job on them.
#include <gtest/gtest.h>

#include "plan/prediction.h"
#include "plan/reference_cost.h"
#include "plan/report.h"

namespace liveavatar {
namespace {

DeviceProfile card(const std::string& name) { return *device_profile(name); }

JobShape job_14b(WeightsType weights, KvType kv) {
  JobShape r;
  r.shapes = *named_model_shapes("14b");
  r.device = "cuda";
  r.threads = 2;
  r.height = r.image_height = 256;
  r.width = r.image_width = 384;
  r.weights_dtype = weights;
  r.kv_dtype = kv;
  return r;
}

Work work_of(const JobShape& r) { return work_per_block(r, *plan_memory(r)); }

// bf16 everywhere, on a card of 24 GB with little host memory and a paging folder.
Work work_on_24gb(Schedule schedule, size_t host_bytes = size_t{4} << 30) {
  JobShape r = job_14b(WeightsType::kBf16, KvType::kBf16);
  r.packed = r.disk_kv_caches = true;
  r.schedule = schedule;
  return work_of(*resolve_shape(r, {card("rtx4090").memory_bytes, host_bytes}));
}

// Whether the card's machine has one is not known to a plan.
TEST(Cards, PlansCountWhatALibraryMayTake) {
  auto scratch = [](WeightsType weights, Tune tune) {
    JobShape r = job_14b(weights, KvType::kBf16);
    r.tune = tune;
    return plan_memory(r)->scratch_bytes;
  };
  constexpr size_t kWorkspaceBytes = size_t{32} << 20, kConvWorkspaceBytes = size_t{64} << 20;
  // Four frames of the widest input beside it, for the decoder alone: the encoder's went back.
  constexpr size_t kConvBytes = kConvWorkspaceBytes + size_t{4} * 256 * 384 * 96 * 2;
  EXPECT_EQ(scratch(WeightsType::kBf16, Tune::kOff), 0u);
  EXPECT_EQ(scratch(WeightsType::kInt8, Tune::kAuto), kConvBytes) << "linear layers stay with the own kernels";
  EXPECT_GT(scratch(WeightsType::kBf16, Tune::kAuto), kConvBytes + kWorkspaceBytes);
}

TEST(Cards, ComeByNameOrFromNumbers) {
  EXPECT_EQ(card("4xrtx4090").count, 4);
  EXPECT_EQ(card("rtx4090").memory_bytes, kUsable24Bytes);
  DeviceProfile custom = card("2xcustom:2GiB,1e12,5e9");
  EXPECT_EQ(custom.memory_bytes, size_t{2} << 30);
  EXPECT_EQ(custom.bytes_per_s, 5e9);
  EXPECT_EQ(custom.pcie_bytes_per_s, card("rtx4090").pcie_bytes_per_s);
  EXPECT_EQ(custom.count, 2);
  EXPECT_EQ(card("custom:2GiB,1e12,5e9,7GB").pcie_bytes_per_s, 7e9);
  for (const char* bad : {"rtx9999", "custom:", "custom:2GiB", "custom:2KiB,1,1", "0xh100", "custom:1,1,1,",
                          "custom:1,,1", "custom:1,1,1,1,1", "custom:1,1,0", "custom:1,1,-1"})
    EXPECT_EQ(device_profile(bad).status().code(), ErrorCode::kInvalidArgument) << bad;
}

// GeForce cards sum in f32 at half the rate of f16 sums, workstation and data center cards do not. All sum int8
// products in s32 at full rate.
TEST(Cards, RatesAreThoseWithF32Sums) {
  for (const DeviceProfile& d : card_profiles()) {
    const double fp8 = d.fp8_flops_per_s, bf16 = d.bf16_flops_per_s, int8 = d.int8_ops_per_s;
    const bool geforce = d.name.starts_with("rtx");
    EXPECT_NEAR(int8 / bf16, geforce ? 4 : 2, 0.03) << d.name;
    EXPECT_EQ(fp8 > 0, d.compute_capability >= 89) << d.name;
    if (fp8 > 0) {
      EXPECT_NEAR(int8 / fp8, geforce ? 2 : 1, 0.01) << d.name;
    }
  }
  EXPECT_NEAR(card("rtx4090").bf16_flops_per_s, 128 * 2.52e9 * 512, 1e12);
  EXPECT_NEAR(card("rtx4060ti").pcie_bytes_per_s * 2, card("rtx4070").pcie_bytes_per_s, 1);
  EXPECT_NEAR(card("h100").pcie_bytes_per_s, 63e9, 0.1e9);
}

TEST(Cards, ProductsRunAtTheRateOfTheirType) {
  Work work;
  work.product_flops = 1e15;
  work.attention_flops = 1e14;
  auto seconds = [&](const char* name, DType products) {
    work.products = products;
    return predict(work, card(name))->arithmetic_seconds * kArithmeticShare;
  };
  EXPECT_NEAR(seconds("h100", DType::kBF16), 1100 / 989.0, 1e-9);
  EXPECT_NEAR(seconds("h100", DType::kF8E4M3), 1000 / 1979.0 + 100 / 989.0, 1e-9);
  EXPECT_NEAR(seconds("rtx4090", DType::kI8), 1000 / 660.6 + 100 / 165.2, 1e-9);
  EXPECT_EQ(seconds("rtx3090", DType::kF8E4M3), seconds("rtx3090", DType::kBF16));  // it has none
  work.products = DType::kF32;
  EXPECT_FALSE(predict(work, card("h100")));
}

TEST(Cards, TheLargestTimeLimits) {
  const DeviceProfile slow_link = card("custom:2GiB,1e12,5e9,1e9"), fast_link = card("custom:2GiB,1e12,5e9,100e9");
  auto limit = [](const Work& work, const DeviceProfile& device) { return predict(work, device)->limit(); };
  Work work;
  work.vae_flops = 0.65e12;
  work.bytes = 0.99 * 0.85 * 5e9;
  EXPECT_EQ(limit(work, fast_link), Limit::kArithmetic);
  EXPECT_DOUBLE_EQ(predict(work, fast_link)->frames_per_s(), 12);
  work.bytes *= 2;
  EXPECT_EQ(limit(work, fast_link), Limit::kCardMemory);
  EXPECT_DOUBLE_EQ(least_seconds_per_block(work, fast_link), 2 * 0.99 * 0.85);
  work.link_bytes = work.disk_bytes = 9e9;
  EXPECT_EQ(limit(work, fast_link), Limit::kDisk);
  EXPECT_EQ(limit(work, slow_link), Limit::kPcie);
  EXPECT_STREQ(limit_name(Limit::kPcie), "PCIe");
}

TEST(Cards, ACardThatHoldsEverythingIsLimitedByArithmetic) {
  const JobShape r = job_14b(WeightsType::kBf16, KvType::kBf16);
  for (const char* name : {"a100", "h100", "h200", "b200"}) {
    ASSERT_LE(plan_memory(r)->peak_bytes, card(name).memory_bytes) << name;
    Prediction p = *predict(work_of(r), card(name));
    EXPECT_EQ(p.limit(), Limit::kArithmetic) << name;
    EXPECT_EQ(p.paging_seconds(), 0) << name;
    EXPECT_GT(p.seconds_per_block(), least_seconds_per_block(work_of(r), card(name))) << name;
  }
}

TEST(Cards, ACardTooSmallForTheWeightsIsLimitedByDisk) {
  const Work wavefront = work_on_24gb(Schedule::kWavefront), sequential = work_on_24gb(Schedule::kSequential);
  Prediction p = *predict(wavefront, card("rtx4090"));
  EXPECT_EQ(p.limit(), Limit::kDisk);
  EXPECT_LT(p.frames_per_s(),
            predict(work_of(job_14b(WeightsType::kQ4, KvType::kInt8)), card("rtx4090"))->frames_per_s());
  // Whether layers stay or pass through, the forwards read all of them from the card's memory.
  EXPECT_NEAR(wavefront.bytes / work_of(job_14b(WeightsType::kBf16, KvType::kBf16)).bytes, 1, 0.05);
  // One after the other, blocks page the weights once a step.
  EXPECT_GT(sequential.disk_bytes, 3 * wavefront.disk_bytes);
}

TEST(Cards, HostMemoryBesideTheCardKeepsEverythingOffTheDisk) {
  const Work work = work_on_24gb(Schedule::kWavefront, 0);
  EXPECT_EQ(work.disk_bytes, 0);
  EXPECT_GT(work.link_bytes, 0);
  EXPECT_EQ(predict(work, card("rtx4090"))->disk_seconds, 0);
  EXPECT_GE(work.link_bytes, work_on_24gb(Schedule::kWavefront).disk_bytes);
}

// Keys and values move once a block, weights once a step.
TEST(Cards, KeysAndValuesLeaveTheCardBeforeWeights) {
  JobShape r = job_14b(WeightsType::kInt8, KvType::kBf16);
  r.packed = r.layers_in_host = true;
  const JobShape settled = *resolve_shape(r, {card("rtx4090").memory_bytes, 0});
  EXPECT_EQ(settled.resident(), r.shapes.dit.layers);
  EXPECT_TRUE(settled.kv_caches_paged());
  EXPECT_EQ(settled.kv_caches().on_disk(), 0);
  const MemoryLimits limits{card("rtx4090").memory_bytes, plan_memory(settled)->host.peak_bytes - 1};
  const JobShape less_host = *resolve_shape(r, limits);
  EXPECT_LT(less_host.resident(), r.shapes.dit.layers);
  EXPECT_TRUE(limits.keeps(*plan_sessions(less_host, 1)));
}

TEST(Cards, AFasterCardIsNeverSlower) {
  const Work works[] = {work_of(job_14b(WeightsType::kBf16, KvType::kBf16)), work_on_24gb(Schedule::kWavefront)};
  auto no_less = [](const DeviceProfile& a, const DeviceProfile& b) {
    return a.bf16_flops_per_s >= b.bf16_flops_per_s && a.bytes_per_s >= b.bytes_per_s &&
           a.pcie_bytes_per_s >= b.pcie_bytes_per_s;
  };
  int pairs = 0;
  for (const DeviceProfile& fast : card_profiles()) {
    for (const DeviceProfile& slow : card_profiles()) {
      if (!no_less(fast, slow)) continue;
      ++pairs;
      for (const Work& work : works)
        EXPECT_GE(predict(work, fast)->frames_per_s(), predict(work, slow)->frames_per_s()) << fast.name << slow.name;
    }
  }
  EXPECT_GT(pairs, 50);
}

}  // namespace
}  // namespace liveavatar
