// A job on several ranks of one process: the latents of one device to the bit in every mode, and the ends that are not
// happy.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "parallel/local_group.h"
#include "pipeline/engine.h"
#include "pipeline/plan_ranks.h"
#include "support/mini.h"
#include "support/resolved.h"
#include "support/sanitized.h"

namespace liveavatar {
namespace {

struct Made {
  Status status;
  std::vector<float> latents;
  std::vector<uint8_t> frames;
  std::vector<RankReport> ranks;
  size_t peak_bytes = 0, planned_bytes = 0;
};

Made make(const EngineOptions& options, const GenerateRequest& request,
          const std::function<bool(const VideoChunk&)>& on_chunk = {}) {
  Made made;
  made.status = [&]() -> Status {
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(options));
    LA_ASSIGN_OR_RETURN(std::unique_ptr<LocalEngine> engine, LocalEngine::load(std::move(checkpoint)));
    LA_ASSIGN_OR_RETURN(ResolvedJob job, resolve(resolve_options(engine->checkpoint()), request));
    LA_RETURN_IF_ERROR(hear(job));
    RunCalls calls;
    calls.hooks.latents = [&](int64_t, const Tensor& t) {
      made.latents.insert(made.latents.end(), t.host<float>(), t.host<float>() + t.elements());
    };
    calls.on_chunk = [&](const VideoChunk& chunk) {
      made.frames.insert(made.frames.end(), chunk.rgb, chunk.rgb + chunk.frames * chunk.height * chunk.width * 3);
      return !on_chunk || on_chunk(chunk);
    };
    calls.rank_reports = &made.ranks;
    Status status = engine->run(job, calls);
    made.peak_bytes = engine->memory_peak_bytes();
    made.planned_bytes = job.plan.peak_bytes;
    return status;
  }();
  return made;
}

struct Mode {
  const char* devices;
  int ulysses_size = 1;
  bool vae_parallel = false;
  const char* step_shares = "";
  int decode_threads = 0;
  bool shard_weights = false;
};

EngineOptions options_of(const Mode& mode) {
  EngineOptions options = mini_options();
  options.devices = mode.devices;
  options.ulysses_size = mode.ulysses_size;
  options.vae_parallel = mode.vae_parallel;
  options.step_shares = mode.step_shares;
  options.decode_threads = mode.decode_threads;
  options.shard_weights = mode.shard_weights;
  return options;
}

// Three clips: the sink is filled again on every rank.
GenerateRequest job_of(int64_t clips = 3) {
  GenerateRequest job = mini_job(clips);
  job.infer_frames = 36;
  return job;
}

class RanksMode : public ::testing::TestWithParam<Mode> {};

TEST_P(RanksMode, GivesTheBitsOfOneDevice) {
  for (ComputeType dtype : {ComputeType::kBf16, ComputeType::kF32}) {
    if (kSanitized && dtype == ComputeType::kF32) continue;
    EngineOptions one = mini_options(), many = options_of(GetParam());
    one.dtype = many.dtype = dtype;
    const Made want = make(one, job_of()), got = make(many, job_of());
    ASSERT_TRUE(want.status.ok()) << want.status.message();
    ASSERT_TRUE(got.status.ok()) << got.status.message();
    EXPECT_EQ(got.latents, want.latents);
    EXPECT_EQ(got.frames, want.frames);
    EXPECT_LE(got.peak_bytes, got.planned_bytes);
    EXPECT_GE(double(got.peak_bytes), 0.97 * double(got.planned_bytes));
    EXPECT_FALSE(got.ranks.empty());
    for (const RankReport& rank : got.ranks) {
      EXPECT_GT(rank.sample_s, rank.waited_s);
      EXPECT_LE(rank.peak_bytes, rank.planned_peak_bytes) << rank.rank;
      EXPECT_GE(double(rank.peak_bytes), 0.97 * double(rank.planned_peak_bytes)) << rank.rank;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, RanksMode,
                         ::testing::Values(Mode{"cpu:2"}, Mode{"cpu:2", 2}, Mode{"cpu:2", 1, true}, Mode{"cpu:3"},
                                           Mode{"cpu:3", 3}, Mode{"cpu:3", 2, true}, Mode{"cpu:4"}, Mode{"cpu:4", 2},
                                           Mode{"cpu:5", 1, true}, Mode{"cpu:5", 2, true},
                                           Mode{"cpu:2", 1, false, "3,1"}, Mode{"cpu:2", 1, false, "", 1},
                                           Mode{"cpu:3", 1, true, "1,3", 1}, Mode{"cpu:4", 1, false, "", 0, true},
                                           Mode{"cpu:3", 3, false, "", 0, true}, Mode{"cpu:5", 2, true, "", 0, true}));

// They remember a block's steps, which all ranks have then.
TEST(Ranks, EverySolverGivesTheBitsOfOneDeviceWhereAllRanksShareTheSteps) {
  for (const SampleSolver solver : {SampleSolver::kUniPc, SampleSolver::kDpmPlusPlus}) {
    GenerateRequest job = job_of(1);
    job.sample_solver = solver;
    const Made want = make(mini_options(), job);
    for (const Mode& mode : {Mode{"cpu:2", 2}, Mode{"cpu:3", 2, true}}) {
      const Made got = make(options_of(mode), job);
      ASSERT_TRUE(got.status.ok()) << got.status.message();
      EXPECT_EQ(got.latents, want.latents) << sample_solver_name(solver) << " " << mode.devices;
      for (const RankReport& rank : got.ranks) EXPECT_LE(rank.peak_bytes, rank.planned_peak_bytes) << rank.rank;
    }
  }
}

TEST(Ranks, ThePlanOfEachRankIsThatOfTheRun) {
  for (const Mode& mode : {Mode{"cpu:3", 1, true}, Mode{"cpu:4", 2}, Mode{"cpu:3", 2, true, "", 0, true}}) {
    const EngineOptions options = planned_lead(options_of(mode));
    ResolvedJob job = *resolve_job(options, job_of());
    ASSERT_TRUE(hear(job).ok());
    const std::vector<RankUse> planned = *plan_ranks(job, options, options_of(mode));
    const std::vector<RankReport> ranks = make(options_of(mode), job_of()).ranks;
    ASSERT_EQ(planned.size(), ranks.size());
    for (size_t i = 0; i < ranks.size(); ++i) {
      EXPECT_EQ(planned[i].peak_bytes, ranks[i].planned_peak_bytes) << mode.devices << " rank " << i;
      EXPECT_EQ(planned[i].part, ranks[i].part);
    }
  }
}

// The lead's are of its device, and were made of what was asked for.
TEST(Ranks, TheLimitsOfARankAreOfItsOwnDevice) {
  constexpr size_t kGib = size_t{1} << 30;
  EngineOptions asked, lead;
  auto limits = [&](const char* devices, const char* device) {
    asked.devices = lead.devices = devices;
    const EngineOptions own = rank_options(asked, lead, device);
    EXPECT_EQ(own.device, device);
    return std::pair(own.memory_budget_bytes / kGib, own.host_budget_bytes / kGib);
  };
  lead.device = "cuda:0";
  lead.memory_budget_bytes = 22 * kGib;  // what was free there
  lead.host_budget_bytes = 50 * kGib;
  EXPECT_EQ(limits("cuda:0,cuda:1", "cuda:1"), std::pair(size_t{0}, size_t{50}));
  EXPECT_EQ(limits("cuda:0,cpu", "cpu"), std::pair(size_t{0}, size_t{0}));
  asked.memory_budget_bytes = 12 * kGib;  // of each
  asked.host_budget_bytes = 100 * kGib;
  EXPECT_EQ(limits("cuda:0,cuda:1", "cuda:1"), std::pair(size_t{12}, size_t{50}));
  EXPECT_EQ(limits("cuda:0,cpu", "cpu"), std::pair(size_t{12}, size_t{0}));
  asked.memory_budget_bytes = 0;
  lead.device = "cpu";
  lead.memory_budget_bytes = 100 * kGib;
  lead.host_budget_bytes = 0;
  EXPECT_EQ(limits("cpu,cuda:0", "cuda:0"), std::pair(size_t{0}, size_t{100}));
  EXPECT_EQ(limits("cpu,cuda:0,cuda:1", "cuda:1"), std::pair(size_t{0}, size_t{50}));
}

// Layers that fit on the lead's card stay there, and those of a rank with less memory may still leave it.
TEST(Ranks, ARankWithLessMemoryThanTheLeadMayPage) {
  EngineOptions asked, lead;
  asked.devices = lead.devices = "cuda:0,cuda:1";
  lead.device = "cuda:0";
  lead.page_weights = false;
  lead.memory_budget_bytes = 200;
  asked.memory_budget_bytes = 100;
  EXPECT_TRUE(rank_options(asked, lead, "cuda:1").page_weights);
  asked.memory_budget_bytes = 200;
  EXPECT_FALSE(rank_options(asked, lead, "cuda:1").page_weights);
}

TEST(Ranks, WhatHeadsAreExchangedOverIsReported) {
  for (const RankReport& rank : make(options_of({"cpu:3", 2, true}), job_of(1)).ranks) {
    const bool shares = rank.part != "VAE";
    EXPECT_EQ(rank.link.starts_with("host memory: rank "), shares) << rank.link;
    EXPECT_EQ(rank.link.empty(), !shares) << rank.link;
  }
}

TEST(Ranks, OneDeviceOfDevicesIsTheDevice) {
  EngineOptions options = options_of({"cpu:1"});
  options.device = "reference";
  EXPECT_EQ((*open_checkpoint(options))->options.device, "cpu");
}

// Takes part in a video, but for its blocks.
class TakesNoBlock : public SubGroup {
 public:
  using SubGroup::SubGroup;
  Status receive(int from, Tag tag, std::span<std::byte> data) override {
    if (tag != Tag::kBlock) return SubGroup::receive(from, tag, data);
    const auto began = std::chrono::steady_clock::now();
    while (status().ok() && std::chrono::steady_clock::now() - began < std::chrono::seconds(30))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    abort(cancelled("nobody gave up in 30 s"));
    return status();
  }
};

TEST(Ranks, ALeadThatDecodesMeanwhileDoesNotWaitForEver) {
  auto models = *load_models(*open_checkpoint(options_of({"cpu:2"})));
  auto others = *Models::beside(*models);
  ResolvedJob job = *resolve(resolve_options(*models->checkpoint), job_of(1));
  ASSERT_TRUE(hear(job).ok());
  std::vector<std::unique_ptr<Group>> groups = open_local_groups({"cpu", "cpu"}, {.wait_s = 1});
  TakesNoBlock silent(*groups[1], {0, 1});
  std::jthread other([&] { EXPECT_FALSE(serve_video(*others, {}, silent).ok()); });
  const ChunkCallback on_chunk = [](const VideoChunk&) { return true; };
  const Status status = run_job(*models, job, {.on_chunk = on_chunk, .ranks = groups[0].get()});
  EXPECT_EQ(status.code(), ErrorCode::kIo);
  EXPECT_NE(status.message().find("rank 1 ("), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("did not take a block for 1 s"), std::string::npos) << status.message();
}

// A rank's group as it would be with these hosts.
class OnHosts : public SubGroup {
 public:
  OnHosts(Group& whole, const std::vector<int>& members, std::vector<std::string> hosts)
      : SubGroup(whole, members), hosts_(std::move(hosts)) {}
  Place place(int rank) const override { return {hosts_[static_cast<size_t>(rank)], SubGroup::place(rank).device}; }

 private:
  std::vector<std::string> hosts_;
};

TEST(Ranks, ProcessesWithCardsDivideTheMemoryOfTheirHost) {
  std::vector<std::unique_ptr<Group>> groups = open_local_groups({"cuda:0", "cuda:1", "cuda:0", "cpu"});
  auto host_bytes = [&](int rank, const std::vector<std::string>& hosts) {
    const OnHosts group(*groups[static_cast<size_t>(rank)], {0, 1, 2, 3}, hosts);
    EngineOptions options;
    options.device = group.place(rank).device;
    share_host_memory(group, options);
    return double(options.host_budget_bytes);
  };
  const double whole = host_bytes(0, {"a", "b", "c", "d"});
  ASSERT_GT(whole, 0);
  constexpr double kChange = 0.2;  // meanwhile, by others
  EXPECT_NEAR(host_bytes(1, {"a", "a", "b", "b"}) / whole, 1.0 / 2, kChange / 2);
  EXPECT_NEAR(host_bytes(2, {"a", "a", "b", "b"}) / whole, 1, kChange);
  EXPECT_NEAR(host_bytes(0, {"a", "a", "a", "a"}) / whole, 1.0 / 3, kChange / 3);
  EXPECT_EQ(host_bytes(3, {"a", "a", "a", "a"}), 0);
  const OnHosts group(*groups[0], {0, 1, 2, 3}, {"a", "a", "a", "a"});
  EngineOptions given;
  given.device = "cuda:0";
  given.host_budget_bytes = 5;
  share_host_memory(group, given);
  EXPECT_EQ(given.host_budget_bytes, 5u);
}

TEST(Ranks, ALatentOfEveryBlockIsKeptWithoutOnlineDecode) {
  GenerateRequest job = job_of(2);
  job.online_decode = false;
  const Made want = make(mini_options(), job), got = make(options_of({"cpu:3", 1, true}), job);
  ASSERT_TRUE(got.status.ok()) << got.status.message();
  EXPECT_EQ(got.frames, want.frames);
}

TEST(Ranks, APoseVideoAndTwoSpeakersTravelWithTheBlocks) {
  GenerateRequest job = job_of(2);
  job.audio = kSource + "/assets/demo/voice.wav+" + kSource + "/tests/cases/v1.wav";
  job.masks = {kSource + "/tests/cases/grey_mask.jpg", kSource + "/tests/cases/base.png"};
  job.pose_video = kSource + "/tests/cases/talk.mp4";
  const Made want = make(mini_options(), job);
  ASSERT_TRUE(want.status.ok()) << want.status.message();
  for (const Mode& mode : {Mode{"cpu:3"}, Mode{"cpu:4", 2}, Mode{"cpu:3", 2, true}}) {
    const Made got = make(options_of(mode), job);
    ASSERT_TRUE(got.status.ok()) << got.status.message();
    EXPECT_EQ(got.frames, want.frames) << mode.devices;
  }
}

TEST(Ranks, AStopEndsAllAndTheEngineMakesTheNextVideo) {
  for (const Mode& mode : {Mode{"cpu:3"}, Mode{"cpu:2", 2}, Mode{"cpu:3", 1, true}, Mode{"cpu:3", 1, true, "", 1}}) {
    auto checkpoint = *open_checkpoint(options_of(mode));
    auto engine = *LocalEngine::load(std::move(checkpoint));
    int chunks = 0;
    auto stopping = [&](const VideoChunk&) { return ++chunks < 3; };
    EXPECT_EQ(engine->generate(job_of(), stopping, {}).code(), ErrorCode::kCancelled);
    EXPECT_EQ(chunks, 3);
    std::stop_source stop;
    auto asking = [&](const VideoChunk&) { return stop.request_stop(); };
    EXPECT_EQ(engine->generate(job_of(), asking, stop.get_token()).code(), ErrorCode::kCancelled);
    const Status whole = engine->generate(job_of(), [](const VideoChunk&) { return true; }, {});
    EXPECT_TRUE(whole.ok()) << whole.message();
  }
}

TEST(Ranks, AFailureOfTheCallerEndsAll) {
  const Made made = make(options_of({"cpu:3"}), job_of(), [](const VideoChunk&) -> bool { throw 5; });
  EXPECT_EQ(made.status.code(), ErrorCode::kCancelled);
}

// Blocks on their way to other ranks, and back, are in memory that ends with the video.
TEST(Ranks, AStopAtAnyFrameEndsAllThatIsOnItsWay) {
  for (const char* shares : {"1,3", "3,1"}) {
    const Mode mode{"cpu:2", 1, false, shares};
    auto engine = *LocalEngine::load(*open_checkpoint(options_of(mode)));
    for (int last = 1; last < 12; ++last) {
      int chunks = 0;
      auto stopping = [&](const VideoChunk&) { return ++chunks < last; };
      EXPECT_EQ(engine->generate(job_of(), stopping, {}).code(), ErrorCode::kCancelled) << shares << " at " << last;
    }
    const Status whole = engine->generate(job_of(1), [](const VideoChunk&) { return true; }, {});
    EXPECT_TRUE(whole.ok()) << whole.message();
  }
}

// A sound whose end nobody knows before it is there.
class EndsAt : public AudioColumns {
 public:
  EndsAt(int64_t block, int64_t values) : end_(block * kBlockFrames), values_(values) {}
  int64_t count() const override { return 1; }
  Expected<bool> columns(int64_t first, int64_t count, float* out) override {
    if (first >= end_) return false;
    for (int64_t i = 0; i < values_ * count; ++i) out[i] = float((i * 7 + first) % 13) / 13;
    return true;
  }

 private:
  int64_t end_, values_;
};

TEST(Ranks, ASoundThatEndsEarlyEndsAllRanksBehindTheBlocksInFlight) {
  GenerateRequest request = job_of();
  request.schedule = Schedule::kWavefront;
  auto latents = [&](const EngineOptions& options, int64_t end) {
    std::vector<float> all;
    auto engine = *LocalEngine::load(*open_checkpoint(options));
    ResolvedJob job = *resolve(resolve_options(engine->checkpoint()), request);
    EXPECT_TRUE(hear(job).ok());
    const DitConfig& dit = job.shape.shapes.dit;
    EndsAt sound(end, dit.audio_layers * dit.audio_dim);
    RunCalls calls;
    calls.hooks.audio = &sound;
    calls.hooks.latents = [&](int64_t, const Tensor& t) {
      all.insert(all.end(), t.host<float>(), t.host<float>() + t.elements());
    };
    calls.on_chunk = [](const VideoChunk&) { return true; };
    const Status status = engine->run(job, calls);
    EXPECT_TRUE(status.ok()) << status.message();
    return all;
  };
  for (int64_t end : {2, 3, 5}) {  // in the first clip, at its end, in the second
    const std::vector<float> want = latents(mini_options(), end);
    EXPECT_FALSE(want.empty());
    for (const Mode& mode : {Mode{"cpu:2"}, Mode{"cpu:2", 2}, Mode{"cpu:3", 1, true}, Mode{"cpu:4", 2}})
      EXPECT_EQ(latents(options_of(mode), end), want) << mode.devices << " ends at " << end;
  }
}

TEST(Ranks, WhatCannotBePlacedIsRefusedByItsName) {
  auto refused = [](const Mode& mode) { return make(options_of(mode), job_of(1)).status.message(); };
  EXPECT_NE(refused({"cpu:6"}).find("`num_gpus_dit`"), std::string::npos);
  EXPECT_NE(refused({"cpu:3", 2}).find("`ulysses_size` 2"), std::string::npos);
  EXPECT_NE(refused({"cpu:5", 5}).find("4 heads"), std::string::npos);
  EXPECT_NE(refused({"cpu:1", 1, true}).find("`vae_parallel`"), std::string::npos);
  EXPECT_NE(refused({"cpu:2", 1, false, "4"}).find("`step_shares`"), std::string::npos);
  EXPECT_NE(refused({"cpu:2", 1, false, "x"}).find("`step_shares`"), std::string::npos);
  EXPECT_NE(refused({"cpu:0"}).find("`devices`"), std::string::npos);
  EXPECT_NE(refused({"cuda:0,cuda"}).find("twice"), std::string::npos);
  EngineOptions options = options_of({"cpu:2"});
  GenerateRequest job = job_of(1);
  job.sample_solver = SampleSolver::kUniPc;
  EXPECT_NE(make(options, job).status.message().find("`sample_solver`"), std::string::npos);
}

// All ranks of a process are in its budget: what the plan says is enough, and less is refused before any work.
TEST(Ranks, TheBudgetIsThatOfAllRanks) {
  EngineOptions options = options_of({"cpu:4"});
  const size_t planned = make(options, job_of(1)).planned_bytes;
  options.memory_budget_bytes = planned;
  EXPECT_TRUE(make(options, job_of(1)).status.ok());
  options.memory_budget_bytes = planned - 4096;
  EXPECT_EQ(make(options, job_of(1)).status.code(), ErrorCode::kOutOfMemory);
}

}  // namespace
}  // namespace liveavatar
