// What is advised for each card, and that docs/cards.md says it.
#include "plan/card_advice.h"
#include "plan/resolve_shape.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>

#include "support/temp_dir.h"

namespace liveavatar {
namespace {

const std::string kSource = LA_SOURCE_DIR;

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

const std::vector<CardAdvice>& advice() {
  static const std::vector<CardAdvice> all = *advise_cards();
  return all;
}

TEST(CardAdvice, FitsTheCardAndPagesNothingWithoutNeed) {
  for (const CardAdvice& a : advice()) {
    if (!a.fits) continue;
    const std::string where = a.device.name + " " + a.size;
    EXPECT_LE(a.plan.peak_bytes, a.device.memory_bytes) << where;
    EXPECT_GT(a.plan.host.peak_bytes, 0u) << where;
    EXPECT_LE(a.plan.host.peak_bytes, kAdvisedHostBytes) << where;
    JobShape narrow = a.shape;
    narrow.weights_dtype = WeightsType::kQ4;
    narrow.kv_dtype = KvType::kInt8;
    narrow.packed = narrow.layers_in_host = true;
    narrow.pack_first = narrow.disk_kv_caches = false;
    narrow.schedule = Schedule::kAuto;
    narrow.resident_layers = narrow.resident_kv_caches = -1;
    narrow.host_layers = narrow.host_kv_caches = 0;
    const MemoryLimits limits{a.budget_bytes, kAdvisedHostBytes};
    const bool fits_without_disk = limits.keeps(*plan_sessions(*resolve_shape(narrow, limits), 1));
    EXPECT_EQ(a.work.disk_bytes > 0, !fits_without_disk) << where;
  }
}

// Where arithmetic limits, frame rates are as the cards' rates; smaller frames are more frames.
TEST(CardAdvice, FollowsTheCardAndTheSize) {
  std::map<std::string, const CardAdvice*> by_name;
  for (const CardAdvice& a : advice()) by_name[a.device.name + " " + a.size] = &a;
  ASSERT_EQ(by_name.size(), 3 * card_profiles().size());
  auto frames_per_s = [&](const char* row) { return by_name.at(row)->prediction.frames_per_s(); };
  EXPECT_FALSE(by_name.at("rtx3060 1280*720")->fits);
  EXPECT_EQ(by_name.at("h200 704*384")->shape.weights_dtype, WeightsType::kBf16);
  EXPECT_EQ(by_name.at("rtx4090 384*256")->shape.weights_dtype, WeightsType::kInt8);
  EXPECT_NEAR(frames_per_s("h100 704*384") / frames_per_s("a100 704*384"), 989 / 312.0, 0.01);
  EXPECT_GT(frames_per_s("rtx5090 384*256"), 2 * frames_per_s("rtx5090 704*384"));
}

// To write the file anew: liveavatar plan --cards --markdown > docs/cards.md
TEST(CardAdvice, TheDocumentIsWhatTheProgramSays) {
  const TempDir dir;
  const std::string said = dir.file("cards.md");
  ASSERT_EQ(std::system((std::string(LA_PROGRAM) + " plan --cards --markdown > " + said).c_str()), 0);
  EXPECT_EQ(text_of(said), text_of(kSource + "/docs/cards.md"));
}

}  // namespace
}  // namespace liveavatar
