// cuDNN has an execution plan for every hot convolution of the 14B model's VAE, on every kind of card. It is told what
// a card is and needs none: plans are made and finalised, and nothing runs.
#include <gtest/gtest.h>

#include <algorithm>

#include "backend/cuda/conv_by_library.h"
#include "backend/cuda/libraries/cudnn_graph.h"
#include "models/wan_vae/memory.h"
#include "session/model_shapes.h"

namespace liveavatar::cuda {
namespace {

struct CardNumbers {
  const char* name;
  int compute_capability, multiprocessors, threads, blocks;  // threads and blocks: of a multiprocessor
  int64_t shared_bytes, memory_gib, l2_mib, core_khz, memory_khz;
};

constexpr CardNumbers kCards[] = {
    {"A100", 80, 108, 2048, 32, 166912, 80, 40, 1410000, 1593000},
    {"RTX 3090", 86, 82, 1536, 16, 101376, 24, 6, 1695000, 9751000},
    {"RTX 4090", 89, 128, 1536, 24, 101376, 24, 72, 2520000, 10501000},
    {"H100", 90, 132, 2048, 32, 232448, 80, 50, 1980000, 2619000},
    {"B200", 100, 148, 2048, 32, 232448, 180, 126, 1965000, 3996000},
    {"RTX 5090", 120, 170, 1536, 24, 101376, 32, 96, 2407000, 14001000},
};

// In cuDNN's own words.
std::string properties_json(const CardNumbers& c) {
  const auto number = [](const char* key, int64_t value) {
    return ",\"" + std::string(key) + "\":" + std::to_string(value);
  };
  return "{\"deviceName\":\"" + std::string(c.name) + "\"" + number("deviceVer", c.compute_capability * 10) +
         number("driverVer", 13000) + number("cudaDeviceId", 0) + number("multiProcessorCount", c.multiprocessors) +
         ",\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64]" + number("regsPerBlock", 65536) +
         number("warpSize", 32) + number("maxSharedMemoryPerBlock", 49152) +
         number("maxSharedMemoryPerBlockOptin", c.shared_bytes) + number("reservedSharedMemoryPerBlock", 1024) +
         number("maxRegistersPerSM", 65536) + number("maxCtasPerSM", c.blocks) + number("maxThreadsPerBlock", 1024) +
         number("maxThreadsPerSM", c.threads) + number("pciDeviceId", 0) + number("isTccDriver", 0) +
         number("supportCoopLaunch", 1) + number("totalGlobalMem", c.memory_gib << 30) +
         number("smClockRateKHz", c.core_khz) + number("memClockRateKHz", c.memory_khz) +
         number("l2CacheSize", c.l2_mib << 20) + "}";
}

Expected<CudnnDescriptor> properties_of(const CudnnFunctions& f, const CardNumbers& card) {
  LA_ASSIGN_OR_RETURN(CudnnDescriptor properties, CudnnDescriptor::create(f, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR));
  const std::string json = properties_json(card);
  LA_RETURN_IF_ERROR(
      properties.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, std::ssize(json), json.data()));
  LA_RETURN_IF_ERROR(properties.finalise("a card"));
  return properties;
}

// Those of both halves of the VAE for a video of this size, each once.
std::vector<ConvClass> hot_convs(int64_t height, int64_t width) {
  const WanVaeConfig config = named_model_shapes("14b")->vae;
  Arena dry_run;
  std::vector<ConvClass> classes;
  for (const LargestOps& ops :
       {encoder_memory(config, height, width, DType::kBF16, dry_run).ops,
        decoder_memory(config, height / kVaePixels, width / kVaePixels, DType::kBF16, dry_run).ops}) {
    for (const VideoConvSize& size : ops.hot_convs) {
      const std::optional<ConvClass> c = library_class(size);
      EXPECT_TRUE(c) << "a hot convolution that no library is asked for";
      if (c && std::find(classes.begin(), classes.end(), *c) == classes.end()) classes.push_back(*c);
    }
  }
  return classes;
}

class CudnnAccepts : public ::testing::TestWithParam<CardNumbers> {};

TEST_P(CudnnAccepts, EveryHotConvolution) {
  const Expected<CudnnFunctions> f = load_cudnn();
  ASSERT_TRUE(f.ok()) << f.status().message();
  const Expected<CudnnDescriptor> card = properties_of(*f, GetParam());
  ASSERT_TRUE(card.ok()) << card.status().message();
  for (const auto& [width, height] : {std::pair{384, 256}, {704, 384}, {1280, 720}}) {
    const std::vector<ConvClass> classes = hot_convs(height, width);
    EXPECT_EQ(classes.size(), 13u);  // two a size and epilogue, more where channels change; three that double it
    for (const ConvClass& c : classes) {
      const Expected<CudnnPlan> plan = plan_conv(*f, {.properties = &*card}, part_of(c));
      ASSERT_TRUE(plan.ok()) << describe(c) << ": " << plan.status().message();
      EXPECT_LE(plan->workspace_bytes, static_cast<int64_t>(kConvWorkspaceBytes)) << describe(c);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cards, CudnnAccepts, ::testing::ValuesIn(kCards),
                         [](const auto& card) { return "sm_" + std::to_string(card.param.compute_capability); });

// That it is asked at all: tensor cores have bf16 from sm_80 on, and a kernel larger than its input has no output.
TEST(CudnnRefuses, WhatCannotBe) {
  const Expected<CudnnFunctions> f = load_cudnn();
  ASSERT_TRUE(f.ok()) << f.status().message();
  const Expected<CudnnDescriptor> card = properties_of(*f, kCards[0]);
  ASSERT_TRUE(card.ok()) << card.status().message();
  LibraryConv c = part_of(hot_convs(256, 384).front());
  c.frames = 1;
  EXPECT_FALSE(plan_conv(*f, {.properties = &*card}, c).ok());
}

}  // namespace
}  // namespace liveavatar::cuda
