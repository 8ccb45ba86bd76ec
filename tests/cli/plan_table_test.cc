// What `plan` prints.
#include <nlohmann/json.hpp>

#include "fixture.h"

namespace liveavatar {
namespace {

TEST_F(CliTest, PlanPrintsATableAndJson) {
  Outcome table = run("plan --ckpt_dir " + kMini + " --size '128*128'");
  EXPECT_EQ(table.code, 0) << table.text;
  for (const char* word : {"kv_cache", "steady", "stage run", "freed after use"})
    EXPECT_NE(table.text.find(word), std::string::npos) << word;
  Outcome json = run("plan --shape 1.3b --size '384*256' --devices 4xrtx4090 --json");
  for (const char* key : {"\"peak_bytes\"", "\"steady_bytes\"", "\"memory_by_category\"", "\"fits\"", "\"suggestions\"",
                          "\"supported\": true", "\"device\": \"cuda\"", "\"predicted_frames_per_s\"", "\"limit\": \""})
    EXPECT_NE(json.text.find(key), std::string::npos) << key;
  Outcome tight = run("plan --shape 14b --memory-budget 64GiB --host-budget 40GiB");
  EXPECT_EQ(tight.code, 1);
  EXPECT_NE(tight.text.find("does not fit"), std::string::npos) << tight.text;
  EXPECT_NE(tight.text.find("--memory_budget"), std::string::npos) << tight.text;
  EXPECT_NE(run("plan --reference-cost").text.find("marginal"), std::string::npos);
  expect_refusal(run("plan --device_profile rtx1"), 2, "choose rtx3060");
  expect_refusal(run("plan --device cpu --device_profile l4"), 2, "leave --device out");
  expect_refusal(run("plan --shape 15b"), 2, "15b");
  expect_refusal(run("plan --size big"), 2, "--size");
  expect_refusal(run("plan --ckpt_dir /nowhere"), 1, "no such folder");
}

TEST_F(CliTest, PlanSaysWhichDeviceDoesWhat) {
  const std::string plan = "plan --shape 14b --size '384*256' --weights_dtype int8 --kv_dtype int8 --devices ";
  const Outcome best = run(plan + "4xrtx4090");
  for (const char* words : {"one video on 4 x rtx4090, pcie between them; predicted", "limited by rank ", "step 3",
                            "the fastest of 14 placements on up to 4 devices"})
    EXPECT_NE(best.text.find(words), std::string::npos) << words << "\n" << best.text;
  EXPECT_NE(best.text.find("peak GiB", best.text.find("one video on")), std::string::npos) << best.text;
  // Host memory is that of all of them.
  const std::string paged =
      "plan --shape 14b --size '704*384' --weights_dtype int8 --activations_dtype int8 --devices 4xrtx4090 ";
  const Outcome enough = run(paged + "--host_budget 72GiB"), less = run(paged + "--host_budget 64GiB");
  EXPECT_EQ(enough.code, 0) << enough.text;
  EXPECT_NE(enough.text.find("GiB: fits"), std::string::npos) << enough.text;
  EXPECT_EQ(less.code, 1);
  EXPECT_NE(less.text.find("GiB: does not fit"), std::string::npos) << less.text;
  const Outcome asked =
      run(plan + "5xh100 --num_gpus_dit 4 --ulysses_size 2 --enable_vae_parallel --link 10gbe --json");
  const auto placement = nlohmann::json::parse(asked.text)["placement"];
  EXPECT_EQ(placement["link"], "10gbe");
  EXPECT_EQ(placement["reason"], "");
  ASSERT_EQ(placement["ranks"].size(), 5u);
  EXPECT_EQ(placement["ranks"][0]["does"], "VAE");
  EXPECT_EQ(placement["ranks"][4]["does"], "steps 2..3, heads 2 of 2");
  EXPECT_GT(placement["predicted_frames_per_s"], 0);
  EXPECT_EQ(run(plan + "rtx4090").text.find("one video on"), std::string::npos);
  expect_refusal(run(plan + "2xh100 --num_gpus_dit 3"), 2, "--num_gpus_dit 3");
  expect_refusal(run(plan + "64xh100 --ulysses_size 64"), 2, "--ulysses_size 64: the video model has 40 heads");
  expect_refusal(run(plan + "2xh100 --link usb"), 2, "--link");
}

// Each way out is one of this placement's.
TEST_F(CliTest, PlanSaysWithWhatAPlacementFits) {
  const std::string plan = "plan --shape 14b --size '704*384' --devices 4xl40s";
  const Outcome tight = run(plan);
  EXPECT_EQ(tight.code, 1);
  for (const char* way : {"  --dit_fsdp ", "  --weights_dtype int8 ", "  --weights_dtype q4 "})
    EXPECT_NE(tight.text.find(way), std::string::npos) << way << "\n" << tight.text;
  EXPECT_EQ(tight.text.find("--paging_dir"), std::string::npos) << tight.text;
  EXPECT_EQ(run(plan + " --dit_fsdp").code, 0);
  EXPECT_EQ(run(plan + " --weights_dtype int8").code, 0);
  EXPECT_EQ(run(plan + " --weights_dtype int8").text.find("  --dit_fsdp "), std::string::npos);
}

}  // namespace
}  // namespace liveavatar
