// Whole jobs with weights in memory and on disk, block after block and as a wavefront: the same latents to the bit,
// inside the budget, to the byte of the plan.
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "pipeline/bench.h"
#include "support/mini.h"
#include "support/resolved.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
class PagedJobTest : public ::testing::Test {
 protected:
  void SetUp() override {
    job_.prompt.clear();
    for (int i = 0; i < 100; ++i) job_.prompt += "talk ";  // all slots: the plan's prompt
  }

  std::string convert() {
    std::string path = dir_.file("mini.packed");
    Status status = fs::exists(path) ? Status() : convert_dit(options_, path, {});
    EXPECT_TRUE(status.ok()) << status.message();
    return path;
  }
  // The plan with so many layers in memory; its peak as a budget leaves just those.
  JobShape plan_with(int64_t resident, Schedule schedule) {
    EngineOptions options = options_;
    options.packed_dit = convert();
    JobShape request = *asked_shape(options, job_);
    request.resident_layers = resident;
    request.schedule = schedule;
    return request;
  }
  // Runs the job: latents of all blocks, in order.
  std::vector<float> latents(const EngineOptions& options, Schedule schedule, MemoryPlan* plan = nullptr) {
    auto models = load_models(options);
    EXPECT_TRUE(models.ok()) << models.status().message();
    if (!models.ok()) return {};
    GenerateRequest job = job_;
    job.schedule = schedule;
    std::vector<float> all;
    int64_t next = 0;
    RunHooks hooks;
    hooks.latents = [&](int64_t block, const Tensor& t) {
      EXPECT_EQ(block, next++);
      all.insert(all.end(), t.host<float>(), t.host<float>() + t.elements());
    };
    CategoryBytes used{};
    RunCalls calls;
    calls.hooks = hooks;
    calls.on_chunk = [&](const VideoChunk&) {
      used = (*models)->budget->used_by_category();
      return true;
    };
    Status status = run_job(**models, job, calls);
    EXPECT_TRUE(status.ok()) << status.message();
    if (plan != nullptr) {
      EXPECT_EQ((*models)->budget->peak_bytes(), plan->peak_bytes);
      EXPECT_EQ((*models)->budget->peak_by_category(), plan->peak_by_category);
      EXPECT_EQ(used, plan->steady_by_category);
    }
    return all;
  }

  TempDir dir_;
  EngineOptions options_ = mini_options();
  GenerateRequest job_ = mini_job(2);
};

TEST_F(PagedJobTest, OrderAndPlaceOfWeightsDoNotChangeABit) {
  const std::vector<float> want = latents(options_, Schedule::kSequential);
  ASSERT_EQ(want.size(), size_t(4 * 16 * 3 * 8 * 8));
  EXPECT_EQ(latents(options_, Schedule::kWavefront), want);
  for (Schedule schedule : {Schedule::kSequential, Schedule::kWavefront}) {
    for (int64_t resident : {0, 4}) {
      JobShape request = plan_with(resident, schedule);
      MemoryPlan plan = *plan_memory(request);
      EngineOptions options = options_;
      options.packed_dit = convert();
      options.memory_budget_bytes = plan.peak_bytes;
      EXPECT_EQ(resolve_shape(request, {plan.peak_bytes})->resident(), resident);
      EXPECT_EQ(latents(options, schedule, &plan), want) << schedule_name(schedule) << ", " << resident << " in memory";
    }
  }
  EngineOptions all = options_;
  all.packed_dit = convert();
  EXPECT_EQ(latents(all, Schedule::kAuto), want);  // without a budget
}

TEST_F(PagedJobTest, DecodingAtTheEndAndOtherStepCountsGiveTheSameBits) {
  job_.online_decode = false;
  job_.sample_steps = 3;
  job_.infer_frames = 12;  // one block before the sink is renewed, three side by side after it
  job_.num_clip = 4;
  const std::vector<float> want = latents(options_, Schedule::kSequential);
  MemoryPlan plan = *plan_memory(plan_with(1, Schedule::kWavefront));
  EngineOptions options = options_;
  options.packed_dit = convert();
  options.memory_budget_bytes = plan.peak_bytes;
  EXPECT_EQ(latents(options, Schedule::kAuto, &plan), want);
}

// A budget without room for all: refused without a place to page to; with one the file is made, used and used again.
TEST_F(PagedJobTest, APagingFolderMakesAJobFitItsBudget) {
  const std::vector<float> want = latents(options_, Schedule::kAuto);
  MemoryPlan lean = *plan_memory(plan_with(2, Schedule::kWavefront));
  fs::remove(dir_ / "mini.packed");
  options_.memory_budget_bytes = lean.peak_bytes;
  Status refused = check_fits(*resolve_job(options_, job_));
  EXPECT_EQ(refused.code(), ErrorCode::kOutOfMemory);
  EXPECT_NE(refused.message().find("`paging_dir` DIR"), std::string::npos) << refused.message();
  options_.paging_dir = dir_.string();
  EXPECT_EQ(latents(options_, Schedule::kAuto, &lean), want);
  ASSERT_EQ(std::distance(fs::directory_iterator(dir_.path()), {}), 1);
  fs::path file = fs::directory_iterator(dir_.path())->path();
  auto made = fs::last_write_time(file);
  EXPECT_EQ(latents(options_, Schedule::kSequential).size(), want.size());
  EXPECT_EQ(fs::last_write_time(file), made);
  // Not needed: forgotten before anything is packed.
  options_.memory_budget_bytes = size_t{4} << 30;
  ResolvedJob job = *resolve_job(options_, job_);
  EXPECT_TRUE(drop_idle_paging(options_, job).ok());
  EXPECT_FALSE(job.shape.packed);
  EXPECT_FALSE(options_.page_weights);
  options_.page_weights = true;
  options_.memory_budget_bytes = lean.peak_bytes;
  options_.paging_dir = "/nowhere";
  EXPECT_EQ(load_models(options_).status().code(), ErrorCode::kNotFound);
}

TEST_F(PagedJobTest, AStopAndABrokenFileEndTheJobAndLeaveTheEngineWell) {
  MemoryPlan plan = *plan_memory(plan_with(1, Schedule::kWavefront));
  EngineOptions options = options_;
  options.packed_dit = convert();
  options.memory_budget_bytes = plan.peak_bytes;
  auto engine = *Engine::load(options);
  size_t used = engine->memory_used_bytes();
  int64_t pieces = 0;  // three a block: the stop comes in the middle of the second
  EXPECT_EQ(engine->generate(job_, [&](const VideoChunk&) { return ++pieces < 5; }).code(), ErrorCode::kCancelled);
  EXPECT_EQ(pieces, 5);
  size_t again = engine->memory_used_bytes();
  EXPECT_TRUE(engine->generate(job_, [](const VideoChunk&) { return true; }).ok());
  EXPECT_EQ(engine->memory_used_bytes(), again);
  EXPECT_LE(engine->memory_peak_bytes(), plan.peak_bytes);
  EXPECT_GE(again, used);  // scratch of attention stays
  fs::resize_file(options.packed_dit, fs::file_size(options.packed_dit) / 2);
  Status status = engine->generate(job_, [](const VideoChunk&) { return true; });
  EXPECT_EQ(status.code(), ErrorCode::kCorrupt);
  EXPECT_NE(status.message().find("mini.packed"), std::string::npos) << status.message();
  EXPECT_EQ(engine->memory_used_bytes(), again);
  EXPECT_EQ(load_models(options).status().code(), ErrorCode::kCorrupt);
}

// The resident layers of a packed file are read between the portrait's latents and the prefill.
TEST_F(PagedJobTest, AStopIsHeardWhileResidentLayersAreRead) {
  EngineOptions options = options_;
  options.packed_dit = convert();
  auto models = *load_models(options);
  std::stop_source source;
  std::vector<Stage> stages;
  RunCalls calls;
  calls.stop = source.get_token();
  calls.on_chunk = [](const VideoChunk&) { return true; };
  calls.on_progress = [&](const Progress& progress) { stages.push_back(progress.stage); };
  calls.hooks.tensor = [&](const char* name, const Tensor&) {
    if (std::string(name) == "ref_latent") source.request_stop();
  };
  EXPECT_EQ(run_job(*models, job_, calls).code(), ErrorCode::kCancelled);
  EXPECT_EQ(stages, (std::vector<Stage>{Stage::kText, Stage::kImage}));
}

TEST_F(PagedJobTest, RefusesALoraBesideAPackedFile) {
  EngineOptions options = options_;
  options.packed_dit = convert();
  options.lora_path = kSource + "/tests/goldens/generate/lora";
  EXPECT_EQ(load_models(options).status().code(), ErrorCode::kInvalidArgument);
}

BenchOptions bench_options(const std::string& dir) {
  BenchOptions o;
  o.shape.shapes = *named_model_shapes("mini");
  o.shape.height = o.shape.width = 64;
  o.shape.clip_frames = 24;
  o.shape.blocks = 8;
  o.shape.threads = 2;
  o.paging_dir = dir;
  return o;
}

TEST_F(PagedJobTest, AWavefrontReadsAPageOnceForAllBlocksInFlight) {
  BenchOptions o = bench_options(dir_.string());
  auto whole = run_bench(o);
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  EXPECT_EQ(whole->weights.bytes_read, 0u);
  EXPECT_EQ(whole->charged_peak_bytes, whole->plan.peak_bytes);
  auto same_latents = [&](const BenchResult& b) {
    for (size_t i = 0; i < 8; ++i) EXPECT_EQ(b.blocks[i].checksum, whole->blocks[i].checksum) << i;
  };
  o.keep = true;
  for (int64_t resident : {0, 3}) {
    o.resident_layers = resident;
    for (Schedule schedule : {Schedule::kAuto, Schedule::kSequential}) {
      o.shape.schedule = schedule;
      auto b = run_bench(o);
      ASSERT_TRUE(b.ok()) << b.status().message();
      same_latents(*b);
      EXPECT_EQ(b->charged_peak_bytes, b->plan.peak_bytes);
      EXPECT_EQ(b->ticks, b->shape.schedule == Schedule::kWavefront ? 8 + 3 : 8 * 4);
      const double planned_bytes =
          double(b->ticks) * double(b->plan.paged_bytes) + 8 * double(b->plan.paged_block_bytes);
      EXPECT_LE(double(b->weights.bytes_read), 1.1 * planned_bytes);
      EXPECT_GE(double(b->weights.bytes_read), 0.9 * planned_bytes);
    }
  }
}

TEST_F(PagedJobTest, KeysAndValuesOnDiskGiveTheSameBits) {
  BenchOptions o = bench_options(dir_.string());
  o.shape.clip_frames = 48;  // rings of four blocks
  o.keep = true;
  struct Case {
    KvType type;
    int64_t rings;
    Schedule schedule;
  };
  std::optional<BenchResult> whole;
  for (const Case& c : {Case{KvType::kBf16, -1, Schedule::kAuto}, Case{KvType::kBf16, 0, Schedule::kWavefront},
                        Case{KvType::kBf16, 11, Schedule::kSequential}, Case{KvType::kInt8, -1, Schedule::kAuto},
                        Case{KvType::kInt8, 3, Schedule::kWavefront}}) {
    o.shape.kv_dtype = c.type;
    o.shape.schedule = c.schedule;
    o.resident_kv_caches = c.rings;
    o.resident_layers = c.rings < 0 ? -1 : 6;
    auto b = run_bench(o);
    ASSERT_TRUE(b.ok()) << b.status().message();
    EXPECT_EQ(b->charged_peak_bytes, b->plan.peak_bytes);
    if (c.rings < 0) {
      whole = *b;
      continue;
    }
    for (size_t i = 0; i < 8; ++i)
      EXPECT_EQ(b->blocks[i].checksum, whole->blocks[i].checksum) << schedule_name(c.schedule) << i;
    // Each of 8 blocks writes its quarter; blocks 1, 2, 3 read one, two, three quarters, later ones three. Parts of
    // this small a ring are widened to whole sectors.
    double paged = double(b->plan.kv_cache_bytes),
           sectors = double(b->shape.kv_caches().count() - c.rings) * 8 * 4 * 4096;
    double written = double(b->kv_caches.bytes_written), read = double(b->kv_caches.bytes_read);
    EXPECT_GE(written, 0.9 * paged * 8 / 4);
    EXPECT_LE(written, paged * 8 / 4 + sectors);
    EXPECT_GE(read, 0.9 * paged * (1 + 2 + 5 * 3) / 4);
    EXPECT_LE(read, paged * (1 + 2 + 5 * 3) / 4 + 2 * sectors);
  }
}

TEST_F(PagedJobTest, KeysAndValuesGoToDiskWhereWeightsOnDiskAreNotEnoughOrOnRequest) {
  const std::vector<float> want = latents(options_, Schedule::kAuto);
  options_.paging_dir = dir_.string();
  options_.offload_kv_cache = true;
  EXPECT_EQ(latents(options_, Schedule::kAuto), want);
  EXPECT_TRUE(fs::is_empty(dir_.path()));  // no budget: nothing is packed, and rings have no name
  options_.offload_kv_cache = false;
  JobShape lean = plan_with(0, Schedule::kWavefront);
  size_t kv_caches_in_memory = plan_memory(lean)->peak_bytes;
  lean.resident_kv_caches = 0;
  lean.pack_first = true;
  options_.memory_budget_bytes = plan_memory(lean)->peak_bytes + (size_t{1} << 18);
  ASSERT_LT(options_.memory_budget_bytes, kv_caches_in_memory);
  JobShape settled = *resolve_shape(*asked_shape(options_, job_), {options_.memory_budget_bytes});
  EXPECT_TRUE(settled.kv_caches_paged());
  EXPECT_EQ(settled.resident(), 0);
  EXPECT_EQ(latents(options_, Schedule::kAuto), want);
  options_.paging_dir.clear();
  options_.offload_kv_cache = true;
  Status refused = load_models(options_).status();
  EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("`paging_dir`"), std::string::npos);
}

TEST_F(PagedJobTest, ABenchStaysInItsBudgetAndRemovesItsFile) {
  BenchOptions o = bench_options(dir_.string());
  auto whole = run_bench(o);
  o.limits.device_bytes = whole->plan.peak_bytes - (size_t{4} << 20);
  auto b = run_bench(o);
  ASSERT_TRUE(b.ok()) << b.status().message();
  EXPECT_TRUE(b->shape.paged());
  EXPECT_EQ(b->shape.schedule, Schedule::kWavefront);
  EXPECT_LE(b->charged_peak_bytes, o.limits.device_bytes);
  EXPECT_EQ(b->blocks.back().checksum, whole->blocks.back().checksum);
  EXPECT_TRUE(fs::is_empty(dir_.path()));
  o.paging_dir.clear();
  EXPECT_NE(run_bench(o).status().message().find("`paging_dir`"), std::string::npos);
  o.limits.device_bytes = size_t{30} << 20;
  EXPECT_EQ(run_bench(o).status().code(), ErrorCode::kOutOfMemory);
}

}  // namespace
}  // namespace liveavatar
