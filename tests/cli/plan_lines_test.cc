// Every command line of `generate` can be planned with `plan` instead, and the plan equals the run.
#include <nlohmann/json.hpp>

#include "fixture.h"

namespace liveavatar {
namespace {

class PlanLines : public CliTest {
 protected:
  // Predicted by `plan`, and by the run itself.
  void expect_same(const std::string& line) const {
    Outcome planned = run("plan --json " + line);
    ASSERT_TRUE(planned.text.starts_with("{")) << line << "\n" << planned.text;
    fs::remove(path("report.json"));
    Outcome made =
        run("generate --quiet --save_file '" + path("out.mp4") + "' --report '" + path("report.json") + "' " + line);
    ASSERT_EQ(made.code, 0) << line << "\n" << made.text;
    auto plan = nlohmann::json::parse(planned.text), report = nlohmann::json::parse(std::ifstream(path("report.json")));
    EXPECT_EQ(plan["peak_bytes"], report["predicted_peak_bytes"]) << line;
    for (const auto& [category, bytes] : report["memory_by_category"].items())
      EXPECT_EQ(plan["memory_by_category"][category]["peak_bytes"], bytes["predicted_bytes"])
          << line << " " << category;
  }
};

TEST_F(PlanLines, PredictTheMemoryOfTheSameGenerateCommand) {
  const std::string goldens = kSource + "/tests/goldens/", two = goldens + "generate_two/";
  const std::string one = "--ckpt_dir " + kMini + " --prompt hi --image " + kPortrait + " --audio " + kVoice +
                          " --size '64*64' --infer_frames 12 ";
  expect_same(one + "--num_clip 1");
  expect_same(one + "--num_clip 2 --sample_solver unipc --base_seed 7 --sample_shift 2 --fit original --fp8");
  expect_same(one + "--num_clip 2 --pose_video " + goldens + "pose/pose30.mp4 --pose_frames original");
  expect_same(one + "--num_clip 2 --paging_dir " + path("") + " --memory_budget 70MiB");
  expect_same(one + "--num_clip 2 --no_online_decode --task s2v-14B --enable_compile --t5_cpu");
  expect_same("--prompt hi --num_clip 1 --image " + two + "image.png --audio " + two + "left.wav+" + two +
              "right.wav --mask " + two + "image --speakers original");
}

TEST_F(PlanLines, PredictTheMemoryOfEveryRank) {
  const std::string one = "--ckpt_dir " + kMini + " --prompt hi --image " + kPortrait + " --audio " + kVoice +
                          " --size '64*64' --infer_frames 12 --num_clip 2 --devices ";
  for (const char* devices : {"cpu:3 --num_gpus_dit 2 --enable_vae_parallel", "cpu:2 --step_shares 3,1",
                              "cpu:4 --ulysses_size 2 --dit_fsdp"}) {
    expect_same(one + devices);
    const auto plan = nlohmann::json::parse(run("plan --json " + one + devices).text)["ranks"],
               made = nlohmann::json::parse(std::ifstream(path("report.json")))["ranks"];
    ASSERT_GT(made.size(), 1u);
    ASSERT_EQ(plan.size(), made.size()) << devices;
    for (size_t i = 0; i < made.size(); ++i) {
      const auto does = made[i]["does"].get<std::string>(), link = made[i]["link"].get<std::string>();
      EXPECT_EQ(plan[i]["does"], does);
      EXPECT_EQ(link.starts_with("host memory: rank "), does.find("heads") != std::string::npos) << link;
      EXPECT_EQ(plan[i]["peak_bytes"], made[i]["predicted_peak_bytes"]) << devices << " rank " << i;
    }
  }
  const std::string table = run("plan " + one + "cpu:2").text;
  for (const char* words : {"rank 0, and what the others add to this host:", "2 ranks; no seconds", "steps 1..3"})
    EXPECT_NE(table.find(words), std::string::npos) << words << "\n" << table;
  EXPECT_EQ(table.find("frames/s"), std::string::npos) << table;
}

// Whether they are here or not.
TEST_F(PlanLines, CardsAreNamedAsForGenerate) {
  const std::string job = "plan --json --quiet --shape 14b --size '384*256' --weights_dtype int8 ";
  const auto json = [&](const std::string& more) { return nlohmann::json::parse(run(job + more).text); };
  const auto named = json("--devices cuda:0,cuda:1 --memory_budget 60GiB --host_budget 60GiB");
  EXPECT_EQ(named["ranks"][1]["device"], "cuda:1");
  EXPECT_EQ(named["ranks"][1]["does"], "steps 2..3");
  EXPECT_FALSE(named.contains("placement"));
  EXPECT_EQ(json("--device cuda --num_gpus_dit 2 --memory_budget 60GiB --host_budget 60GiB")["ranks"], named["ranks"]);
  for (const char* same :
       {"--devices cuda:0,cuda:1 --device_profile h100 --step_shares 3,1", "--devices 2xh100 --step_shares 3,1"}) {
    const auto placed = json(same)["placement"];
    ASSERT_EQ(placed["ranks"].size(), 2u) << same;
    EXPECT_EQ(placed["ranks"][0]["does"], "steps 0..2");
    EXPECT_GT(placed["predicted_frames_per_s"], 0);
  }
  // A CPU's budget is not that of the card beside it.
  const auto mixed = json("--devices cpu,cuda:0 --host_budget 20GiB")["ranks"];
  EXPECT_FALSE(mixed[0]["fits"]);
  EXPECT_TRUE(mixed[1]["fits"]);
  EXPECT_EQ(mixed[1]["peak_bytes"], json("--devices cpu,cuda:0")["ranks"][1]["peak_bytes"]);
  EXPECT_LE(mixed[1]["host_peak_bytes"], size_t{20} << 30);
  // A card that is too small for the second rank's layers.
  const Outcome small = run("plan --quiet --shape 14b --devices cuda:0,cuda:1 --memory_budget 2GiB");
  EXPECT_EQ(small.code, 1);
  EXPECT_NE(small.text.find("does not fit"), std::string::npos) << small.text;
  expect_refusal(run(job + "--devices cpu:2 --device_profile h100"), 2, "a profile is of cards");
  expect_refusal(run(job + "--devices cuda:0,cuda:1 --device_profile 2xh100"), 2, "give --device_profile h100");
  expect_refusal(run(job + "--devices cpu:2 --device cpu"), 2, "give one of the two");
  expect_refusal(run(job + "--devices 2xrtx1"), 2, "choose rtx3060");
}

TEST_F(PlanLines, ReportErrorsAsGenerateDoes) {
  const std::string job = "plan --ckpt_dir " + kMini + " --image " + kPortrait + " --audio " + kVoice;
  expect_refusal(run(job + " --mask " + kPortrait), 2, "leave --mask out");
  expect_refusal(run(job + " --sample_solver ddim"), 2, "--sample_solver");
  expect_refusal(run("plan --shape 14b --mask " + kPortrait), 2, "give --audio left.wav+right.wav too");
  expect_refusal(run("plan --sample_list list.json"), 2, "one video is planned at a time");
  expect_refusal(run("plan --enable_tts"), 2, "--enable_tts");
}

TEST_F(PlanLines, AssumedJobsTakeSolversPosesAndVoices) {
  auto peak = [](const std::string& more) {
    Outcome o = run("plan --json --shape 14b --size '384*256' " + more);
    return o.text.starts_with("{") ? nlohmann::json::parse(o.text)["peak_bytes"].get<size_t>() : 0;
  };
  const size_t plain = peak("");
  EXPECT_GT(plain, 0u);
  EXPECT_GT(peak("--sample_solver dpm++"), plain);
  EXPECT_GT(peak("--pose_video " + kSource + "/tests/goldens/pose/pose30.mp4"), plain);
  const std::string two = kSource + "/tests/goldens/generate_two/";
  EXPECT_GT(peak("--audio " + two + "left.wav+" + two + "right.wav --mask " + two + "image"), plain);
}

TEST_F(PlanLines, AssumedJobsCountTheMergeOfAdapters) {
  // One pair of the largest rank: its factors are more than all that is loaded behind the video model.
  const size_t rank = 16384, bytes = rank * 192 * 4;
  const std::string module = "diffusion_model.blocks.0.self_attn.q.";
  nlohmann::json header;
  header[module + "lora_A.weight"] = {{"dtype", "F32"}, {"shape", {rank, 192}}, {"data_offsets", {0, bytes}}};
  header[module + "lora_B.weight"] = {{"dtype", "F32"}, {"shape", {192, rank}}, {"data_offsets", {bytes, 2 * bytes}}};
  const std::string json = header.dump();
  const uint64_t length = json.size();
  const std::string lora =
      " --lora " + write("large.safetensors",
                         std::string(reinterpret_cast<const char*>(&length), 8) + json + std::string(2 * bytes, '\0'));
  auto weights = [](const std::string& more) {
    Outcome o = run("plan --json --size '64*64' --quiet " + more);
    EXPECT_TRUE(o.text.starts_with("{")) << o.text;  // and no note
    return nlohmann::json::parse(o.text)["memory_by_category"]["weights"]["peak_bytes"].get<size_t>();
  };
  EXPECT_GT(weights("--ckpt_dir " + kMini + lora), weights("--ckpt_dir " + kMini) + bytes);
  EXPECT_EQ(weights("--shape mini" + lora), weights("--shape mini --offload_kv_cache"));
  Outcome o = run("plan --shape mini --size '64*64'" + lora);
  EXPECT_NE(o.text.find("note: LoRA: its merge is not in the plan of a --shape"), std::string::npos) << o.text;
}

}  // namespace
}  // namespace liveavatar
