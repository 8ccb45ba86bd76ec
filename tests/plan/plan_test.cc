// The plan against what the engine really charges, byte by byte, and its parts by themselves.
#include <gtest/gtest.h>

#include "liveavatar/liveavatar.h"
#include "media/image.h"
#include "plan/reference_cost.h"
#include "plan/report.h"
#include "support/resolved.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

const std::string kSource = LA_SOURCE_DIR;

EngineOptions engine_options(ComputeType dtype = ComputeType::kBf16, const std::string& device = "cpu") {
  EngineOptions o;
  o.checkpoint_dir = kSource + "/models/mini";
  o.dtype = dtype;
  o.device = device;
  o.threads = 2;
  return o;
}

GenerateRequest small_job(const std::string& size = "64*64") {
  GenerateRequest job;
  job.image = kSource + "/assets/demo/portrait.png";
  job.audio = kSource + "/assets/demo/voice.wav";
  // Longer than any text_len here, so that the plan's full prompt is the real one.
  for (int i = 0; i < 700; ++i) job.prompt += "talk ";
  job.size = size;
  job.num_clip = 1;
  job.infer_frames = 12;
  return job;
}

// Runs the job; every tenant's peak and what is held at the end must be the plan's.
void expect_truth(const EngineOptions& options, const GenerateRequest& job) {
  auto request = asked_shape(options, job);
  ASSERT_TRUE(request.ok()) << request.status().message();
  auto plan = plan_memory(*request);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  auto engine = Engine::load(options);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_EQ((*engine)->memory_peak_bytes(), plan->load_peak_bytes);
  std::vector<CategoryMemory> last;
  Status status = (*engine)->generate(job, [&](const VideoChunk&) {
    last = (*engine)->memory_by_category();
    return true;
  });
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ((*engine)->memory_peak_bytes(), plan->peak_bytes);
  for (size_t t = 0; t < last.size(); ++t) {
    EXPECT_EQ(last[t].peak_bytes, plan->peak_by_category[t]) << last[t].name;
    EXPECT_EQ(last[t].used_bytes, plan->steady_by_category[t]) << last[t].name;
  }
}

TEST(Plan, PredictsEveryCategoryToTheByte) {
  expect_truth(engine_options(), small_job());
  expect_truth(engine_options(), small_job("192*128"));
  expect_truth(engine_options(ComputeType::kF32), small_job());
}

// Adapters that are merged one into the other hold their factors beside the weights while these are read.
TEST(Plan, PredictsTheFactorsOfAdapters) {
  EngineOptions options = engine_options();
  options.lora_path = kSource + "/tests/cases/lora_kohya.safetensors";
  size_t one = asked_shape(options, small_job())->merge_bytes;
  options.loras.push_back({kSource + "/tests/cases/lora_comfy.safetensors", 0.5});
  EXPECT_GT(one, 0u);
  EXPECT_GT(asked_shape(options, small_job())->merge_bytes, one);
  expect_truth(options, small_job());
}

// A portrait so large that reading it is the run's peak.
TEST(Plan, PredictsALargePortrait) {
  GenerateRequest job = small_job();
  job.image = kSource + "/tests/cases/base.png";
  const TempDir dir;
  std::string large = dir.file("large.png");
  auto small = read_image(job.image, true);
  ASSERT_TRUE(small.ok());
  constexpr int64_t kTimes = 14;
  Image image{small->height * kTimes, small->width * kTimes, {}};
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x) {
      const uint8_t* pixel = &small->rgb[size_t((y / kTimes * small->width + x / kTimes) * 3)];
      image.rgb.insert(image.rgb.end(), pixel, pixel + 3);
    }
  }
  ASSERT_TRUE(write_png(large, image).ok());
  size_t before = plan_memory(*asked_shape(engine_options(), job))->peak_bytes;
  job.image = large;
  JobShape request = *asked_shape(engine_options(), job);
  size_t peak = plan_memory(request)->peak_bytes;
  EXPECT_GT(peak, before + (size_t{10} << 20));
  expect_truth(engine_options(), job);
  EngineOptions tight = engine_options();
  tight.memory_budget_bytes = peak - 1;
  Status refused = check_fits(*resolve_job(tight, job));
  EXPECT_EQ(refused.code(), ErrorCode::kOutOfMemory);
  EXPECT_NE(refused.message().find("fewer pixels"), std::string::npos) << refused.message();
  auto engine = Engine::load(tight);
  ASSERT_TRUE(engine.ok());
  EXPECT_EQ((*engine)->describe(job).status().code(), ErrorCode::kOutOfMemory);
}

// Scratch of the first job is gone, so that the second has the same plan; here the portrait is read at the peak.
TEST(Plan, HoldsForEveryJobOfAnEngine) {
  GenerateRequest job = small_job();
  const TempDir dir;
  job.image = dir.file("large.png");
  Image image{3000, 4000, std::vector<uint8_t>(size_t{3000} * 4000 * 3)};
  ASSERT_TRUE(write_png(job.image, image).ok());
  EngineOptions options = engine_options();
  options.memory_budget_bytes = plan_memory(*asked_shape(options, job))->peak_bytes;
  auto engine = *Engine::load(options);
  const size_t loaded = engine->memory_used_bytes();
  for (int i = 0; i < 2; ++i) {
    const Status status = engine->generate(job, [](const VideoChunk&) { return true; });
    EXPECT_TRUE(status.ok()) << i << ": " << status.message();
    EXPECT_EQ(engine->memory_used_bytes(), loaded);
  }
}

TEST(Plan, PredictsOfflineDecodeAndOtherShapesOfClips) {
  GenerateRequest job = small_job();
  job.num_clip = 3;
  job.infer_frames = 24;
  job.sample_steps = 2;
  job.online_decode = false;
  expect_truth(engine_options(), job);
}

// What a solver remembers, of every block in flight.
TEST(Plan, PredictsMultistepSolvers) {
  for (SampleSolver solver : {SampleSolver::kUniPc, SampleSolver::kDpmPlusPlus}) {
    for (Schedule schedule : {Schedule::kSequential, Schedule::kWavefront}) {
      GenerateRequest job = small_job();
      job.infer_frames = 24;
      job.sample_solver = solver;
      job.schedule = schedule;
      expect_truth(engine_options(), job);
    }
  }
}

// Several voices with masks that move, and a pose video.
TEST(Plan, PredictsSpeakersAndPoses) {
  const std::string goldens = kSource + "/tests/goldens/";
  for (Schedule schedule : {Schedule::kSequential, Schedule::kWavefront}) {
    GenerateRequest job = small_job();
    job.infer_frames = 24;
    job.num_clip = 2;
    job.schedule = schedule;
    job.audio = goldens + "speakers/a.wav+" + goldens + "speakers/b.wav";
    job.masks = {goldens + "speakers/masks/moving/1", goldens + "speakers/masks/moving/2"};
    expect_truth(engine_options(), job);
    job.pose_video = goldens + "pose/pose30.mp4";
    expect_truth(engine_options(), job);
    job.audio = goldens + "speakers/b.wav";
    job.masks.clear();
    expect_truth(engine_options(ComputeType::kF32), job);
  }
}

// Masks as a HEIF portrait is stored: its turn is found by decoding it twice.
TEST(Plan, CountsThePassThatFindsThePortraitsOrientation) {
  const std::string goldens = kSource + "/tests/goldens/";
  GenerateRequest job = small_job();
  job.image = kSource + "/tests/cases/turned.avif";
  job.audio = goldens + "speakers/a.wav+" + goldens + "speakers/b.wav";
  ImageInfo picture = *probe_image(job.image, true, kWholeImage);
  const TempDir dir;
  auto mask = [&dir](int64_t height, int64_t width) {
    std::string file = dir.file("mask" + std::to_string(height) + ".png");
    Image image{height, width, std::vector<uint8_t>(static_cast<size_t>(height * width * 3), 255)};
    EXPECT_TRUE(write_png(file, image).ok());
    return file;
  };
  const std::string upright = mask(picture.height, picture.width), across = mask(picture.width, picture.height);
  job.masks = {upright, upright};
  EXPECT_EQ(asked_shape(engine_options(), job)->orientation_bytes, 0u);
  job.masks = {upright, across};
  JobShape request = *asked_shape(engine_options(), job);
  EXPECT_EQ(request.orientation_bytes, picture.image_bytes + picture.decode_bytes);
  request.orientation_bytes = size_t{1} << 30;  // as of a portrait of many megapixels
  EXPECT_EQ(plan_memory(request)->peak_by_category[size_t(MemoryCategory::kMedia)], size_t{1} << 30);
}

TEST(Plan, PredictsQuantisedWeights) {
  size_t before = 0;
  for (WeightsType weights : {WeightsType::kBf16, WeightsType::kInt8, WeightsType::kFp8, WeightsType::kQ4}) {
    EngineOptions options = engine_options(ComputeType::kF32);
    options.weights_dtype = weights;
    if (weights != WeightsType::kFp8) expect_truth(options, small_job());  // as large as int8
    JobShape request = *asked_shape(options, small_job());
    size_t bytes = plan_memory(request)->steady_by_category[size_t(MemoryCategory::kWeights)];
    if (weights == WeightsType::kFp8) {
      EXPECT_EQ(bytes, before);
    } else if (before != 0) {
      EXPECT_LT(bytes, before);
    }
    before = bytes;
  }
}

TEST(Plan, PredictsNarrowKeysAndValues) {
  EngineOptions options = engine_options();
  options.kv_dtype = KvType::kInt8;
  expect_truth(options, small_job());
  options.dtype = ComputeType::kF32;
  options.kv_dtype = KvType::kFp8;
  options.weights_dtype = WeightsType::kFp8;
  expect_truth(options, small_job("128*64"));
}

// 14B: 15.3 billion values in matrices of layers and injectors, 0.9 billion others in bf16, the VAE's 0.3 GB.
TEST(Plan, PlansQuantised14b) {
  JobShape r;
  r.shapes = *named_model_shapes("14b");
  r.height = 256;
  r.width = 384;
  auto weights_gb = [&](WeightsType type) {
    r.weights_dtype = type;
    return double(plan_memory(r)->steady_by_category[size_t(MemoryCategory::kWeights)]) / 1e9;
  };
  EXPECT_NEAR(weights_gb(WeightsType::kInt8), 15.3 + 1.8 + 0.3, 0.3);
  EXPECT_NEAR(weights_gb(WeightsType::kQ4), 15.3 * 4.5 / 8 + 1.8 + 0.3, 0.3);
  // KV caches and sink in a byte a value and four bytes for the 128 of a head; the prompt's stay.
  r.weights_dtype = WeightsType::kSameAsDtype;
  auto kv_bytes = [&](KvType type) {
    r.kv_dtype = type;
    return double(plan_memory(r)->steady_by_category[size_t(MemoryCategory::kKvCache)]);
  };
  double prompt = 40.0 * 2 * 512 * 5120 * 2, whole = kv_bytes(KvType::kBf16) - prompt;
  EXPECT_NEAR((kv_bytes(KvType::kFp8) - prompt) / whole, (128 + 4) / 256.0, 0.001);
  EXPECT_EQ(kv_bytes(KvType::kInt8), kv_bytes(KvType::kFp8));
  r.int8_products = true;
  EXPECT_EQ(plan_memory(r).status().code(), ErrorCode::kInvalidArgument);
  r.weights_dtype = WeightsType::kInt8;
  // A narrower type goes without them, and the flags say so.
  EXPECT_EQ(find_suggestions(r, {plan_memory(r)->peak_bytes - 1})->at(1).settings,
            "`weights_dtype` q4 + `int8_products` false");
}

// The reference backend packs and pads nothing.
TEST(Plan, PredictsLoadingOnTheReferenceBackend) {
  EngineOptions options = engine_options(ComputeType::kBf16, "reference");
  options.weights_dtype = WeightsType::kQ4;
  MemoryPlan plan = *plan_memory(*asked_shape(options, small_job()));
  auto engine = Engine::load(options);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_EQ((*engine)->memory_peak_bytes(), plan.load_peak_bytes);
  EXPECT_EQ((*engine)->memory_used_bytes(), plan.stages.front().after_bytes);
}

TEST(Plan, OnlineDecodeDoesNotGrowAndOfflineGrowsByTheLatents) {
  JobShape r;
  r.shapes = *named_model_shapes("mini");
  r.height = r.width = 128;
  r.blocks = 4;
  MemoryPlan few = *plan_memory(r);
  r.blocks = 4000;
  EXPECT_EQ(plan_memory(r)->peak_bytes, few.peak_bytes);
  r.online_decode = false;
  size_t latents = 16 * 3 * 16 * 16 * 4, pages = (latents + 4095) / 4096 * 4096;
  EXPECT_EQ(plan_memory(r)->steady_bytes - few.steady_bytes, 3999 * pages);
}

TEST(Plan, Plans14bWithoutACheckpointAtOnce) {
  JobShape r;
  r.shapes = *named_model_shapes("14b");
  r.height = 400 / 16 * 16;
  r.width = 720;
  MemoryPlan plan = *plan_memory(r);
  // The specification's arithmetic: ring of four steps 44.2 GB, sink 2.2 GB, prompt 0.4 GB at 720x400.
  EXPECT_NEAR(double(plan.peak_by_category[size_t(MemoryCategory::kKvCache)]) / 1e9, 44.2 + 2.2 + 0.4, 0.3);
  // 16.2 billion parameters in bf16 and the VAE.
  EXPECT_NEAR(double(plan.steady_by_category[size_t(MemoryCategory::kWeights)]) / 1e9, 32.4 + 0.3, 0.4);
  EXPECT_EQ(plan.steady_by_category[size_t(MemoryCategory::kText)], 0u);
  EXPECT_LT(plan.peak_by_category[size_t(MemoryCategory::kText)], size_t{1} << 30);  // a layer at a time
  EXPECT_FALSE(named_model_shapes("15b").ok());
}

// Every suggestion that can be had is taken: planned anew, and run.
TEST(Plan, SuggestionsWorkWhenTaken) {
  EngineOptions options = engine_options(ComputeType::kF32);
  GenerateRequest job = small_job("128*128");
  job.infer_frames = 48;
  job.online_decode = false;
  JobShape request = *asked_shape(options, job);
  MemoryPlan plan = *plan_memory(request);
  EXPECT_TRUE(find_suggestions(request, {plan.peak_bytes})->empty());
  size_t budget = plan.peak_bytes - (size_t{3} << 20);
  std::vector<Suggestion> suggestions = *find_suggestions(request, {budget});
  ASSERT_FALSE(suggestions.empty());
  bool smaller = false, half = false;
  for (const Suggestion& suggestion : suggestions) {
    smaller = smaller || suggestion.settings.starts_with("`size`");
    half = half || suggestion.settings == "`dtype` bf16";
    if (!suggestion.settings.starts_with("`memory_budget_bytes`")) {
      EXPECT_LE(suggestion.peak_bytes, budget) << suggestion.settings;
    }
  }
  EXPECT_TRUE(smaller && half);
  options.memory_budget_bytes = budget;
  options.dtype = ComputeType::kBf16;
  auto engine = Engine::load(options);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_TRUE((*engine)->generate(job, [](const VideoChunk&) { return true; }).ok());
  EXPECT_LE((*engine)->memory_peak_bytes(), budget);
}

// Where loading alone is too much, narrower weights are offered; taken, they load within the budget.
TEST(Plan, SuggestsNarrowerWeights) {
  EngineOptions options = engine_options();
  JobShape request = *asked_shape(options, small_job());
  request.weights_dtype = WeightsType::kInt8;
  MemoryPlan narrow = *plan_memory(request);
  request.weights_dtype = WeightsType::kSameAsDtype;
  ASSERT_LT(narrow.peak_bytes, plan_memory(request)->peak_bytes);
  bool offered = false;
  const std::vector<Suggestion> suggestions = *find_suggestions(request, {narrow.peak_bytes});
  for (const Suggestion& suggestion : suggestions) {
    offered = offered || (suggestion.settings == "`weights_dtype` int8" && suggestion.peak_bytes == narrow.peak_bytes);
  }
  EXPECT_TRUE(offered);
  options.memory_budget_bytes = narrow.load_peak_bytes;
  std::string line = Engine::load(options).status().message();
  EXPECT_NE(line.find("`weights_dtype` int8"), std::string::npos) << line;
  options.weights_dtype = WeightsType::kInt8;
  auto engine = Engine::load(options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
}

// Only all changes together are enough: the suggestion that is found names each once and fits.
TEST(Plan, SuggestionsAddUp) {
  JobShape request;
  request.shapes = *named_model_shapes("14b");
  request.height = request.image_height = 512;
  request.width = request.image_width = 768;
  request.dtype = ComputeType::kF32;
  EXPECT_EQ(find_suggestions(request, {size_t{10} << 30})->front().settings, "`paging_dir` DIR + `dtype` bf16");
  size_t budget = size_t{7} << 30;
  std::vector<Suggestion> suggestions = *find_suggestions(request, {budget});
  const std::string& flags = suggestions.front().settings;
  for (const char* part : {"`weights_dtype`", "`dtype` bf16", "`infer_frames` 24", "`kv_dtype`"}) {
    EXPECT_NE(flags.find(part), std::string::npos) << flags;
    EXPECT_EQ(flags.find(part), flags.rfind(part)) << flags;
  }
  EXPECT_LE(suggestions.front().peak_bytes, budget);
  // No more than it takes: layers on disk, which leave the frames equal.
  request.dtype = ComputeType::kBf16;
  request.height = request.image_height = 256;
  request.width = request.image_width = 384;
  EXPECT_EQ(find_suggestions(request, {size_t{24} << 30})->front().settings, "`paging_dir` DIR");
}

TEST(Plan, ABudgetIsRefusedBeforeWeightsAreRead) {
  EngineOptions options = engine_options();
  options.memory_budget_bytes = 20 << 20;
  auto engine = Engine::load(options);
  ASSERT_EQ(engine.status().code(), ErrorCode::kOutOfMemory);
  EXPECT_NE(engine.status().message().find("loading this checkpoint takes"), std::string::npos);
  Status status = check_fits(*resolve_job(options, small_job()));
  EXPECT_NE(status.message().find("`memory_budget_bytes`"), std::string::npos) << status.message();
  EXPECT_EQ(status.message().find('\n'), std::string::npos);
}

TEST(Plan, ReproducesThePublishedResultsOfTheOriginal) {
  ModelShapes shapes = *named_model_shapes("14b");
  for (const PublishedRow& row : published_rows()) {
    ReferencePlan plan = *plan_reference_cost(shapes, row.job);
    double gb = double(plan.peak_bytes()) / 1e9;
    EXPECT_EQ(fit_of_reference(plan.peak_bytes(), kUsable24Bytes), row.fit) << row.job.width << " " << gb;
    EXPECT_NEAR(gb, row.peak_gb, 0.7) << row.job.width;
  }
}

}  // namespace
}  // namespace liveavatar
