// The device emulation finds each kind of bug, names it, and has nothing to say about correct kernels.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "backend/cuda/emulate/emulate.h"
#include "faulty_kernels.h"

namespace liveavatar::cuda::emulated {
namespace {

struct Release {
  void operator()(int* p) const { emulate::release(p); }
};
using DeviceInts = std::unique_ptr<int, Release>;

constexpr size_t kBytes = 128 * sizeof(int);
DeviceInts fresh() { return DeviceInts(static_cast<int*>(emulate::allocate(kBytes))); }
DeviceInts zeros() {
  DeviceInts memory = fresh();
  emulate::fill(memory.get(), 0, kBytes);
  return memory;
}

// The Fault's words; empty if there is none.
template <typename F>
std::string finding_of(const F& launch) {
  try {
    launch();
  } catch (const emulate::Fault& fault) {
    return fault.what();
  }
  return "";
}

class CudaEmulator : public testing::Test {
 protected:
  void SetUp() override { emulate::protect_from_host(true); }
  void TearDown() override { emulate::order_seed = 0; }
};

class CudaEmulatorFinds : public CudaEmulator, public testing::WithParamInterface<FaultyKernel> {};

TEST_P(CudaEmulatorFinds, TheBugInEveryOrderOfWarps) {
  const FaultyKernel& kernel = GetParam();
  for (uint32_t order : {0u, 1u, 2u, 3u}) {
    emulate::order_seed = order;
    const DeviceInts a = zeros(), b = zeros();
    const std::string got = finding_of([&] { kernel.launch(kernel, {a.get(), b.get()}); });
    if (*kernel.finding == 0) {
      EXPECT_EQ(got, "") << "order " << order;
    } else {
      EXPECT_NE(got.find(kernel.finding), std::string::npos) << "order " << order << ": " << got;
      EXPECT_NE(got.find(std::string("kernel ") + kernel.name), std::string::npos) << got;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, CudaEmulatorFinds,
                         testing::ValuesIn(faulty_kernels().begin(), faulty_kernels().end()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_F(CudaEmulator, NamesTheThreadAndTheLineOfAFinding) {
  for (const FaultyKernel& kernel : faulty_kernels()) {
    if (std::string(kernel.name) != "lanes_in_two_shuffles") continue;
    const DeviceInts a = zeros(), b = zeros();
    const std::string got = finding_of([&] { kernel.launch(kernel, {a.get(), b.get()}); });
    EXPECT_NE(got.find("block (0,0,0), thread 31 (warp 0 lane 31), faulty_kernels.cu:"), std::string::npos) << got;
  }
}

TEST_F(CudaEmulator, FindsReadsOfMemoryThatNobodyWrote) {
  const DeviceInts a = fresh(), b = fresh();
  EXPECT_NE(finding_of([&] { launch_copy({a.get(), b.get()}, 0); }).find("nobody wrote"), std::string::npos);
}

TEST_F(CudaEmulator, FindsReadsOfMemoryThatWasReleased) {
  const DeviceInts a = fresh();
  DeviceInts b = zeros();
  int* released = b.get();
  b.reset();
  EXPECT_NE(finding_of([&] { launch_copy({a.get(), released}, 0); }).find("behind the end"), std::string::npos);
}

TEST_F(CudaEmulator, FindsAPointerToHostMemory) {
  const DeviceInts a = fresh();
  std::vector<int> host(128);
  EXPECT_NE(finding_of([&] { launch_copy({a.get(), host.data()}, 0); }).find("host memory"), std::string::npos);
}

TEST_F(CudaEmulator, RefusesMoreSharedMemoryThanACardHas) {
  const DeviceInts a = fresh(), b = zeros();
  EXPECT_NE(finding_of([&] { launch_copy({a.get(), b.get()}, 100 * 1024); }).find("shared memory"), std::string::npos);
}

TEST_F(CudaEmulator, RefusesCopiesBeyondAnAllocation) {
  const DeviceInts a = zeros();
  std::vector<int> host(129);
  EXPECT_THROW(emulate::copy_to_host(host.data(), a.get(), kBytes + sizeof(int)), emulate::Fault);
  EXPECT_THROW(emulate::copy_to_device(a.get(), host.data(), kBytes + sizeof(int)), emulate::Fault);
}

TEST_F(CudaEmulator, RunsAgainAfterAFinding) {
  const DeviceInts a = fresh(), b = zeros();
  std::vector<int> host(128);
  EXPECT_NE(finding_of([&] { launch_copy({a.get(), host.data()}, 0); }), "");
  EXPECT_EQ(finding_of([&] { launch_copy({a.get(), b.get()}, 0); }), "");
}

TEST_F(CudaEmulator, AHostAccessToDeviceMemoryDies) {
  const DeviceInts a = zeros();
  EXPECT_DEATH({ *static_cast<volatile int*>(a.get()) = 1; }, "");
}

}  // namespace
}  // namespace liveavatar::cuda::emulated
