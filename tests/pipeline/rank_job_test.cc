// What a rank refuses of the lead's job: models that are not the lead's.
#include "session/rank_job.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "ops/make_backend.h"
#include "pipeline/engine.h"
#include "support/mini.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

JobShape shape_of(const EngineOptions& options) {
  const auto checkpoint = Checkpoint::open(options);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  return checkpoint.ok() ? (*checkpoint)->shape() : JobShape();
}

// Of a rank with these options, when the lead has those.
Status joined(const EngineOptions& lead, const EngineOptions& rank) {
  RankJob job;
  job.shape = shape_of(lead);
  job.shape.height = job.shape.width = 64;
  job.placement.stages = {{0, 2}, {2, 2}};
  return parse_rank_job(to_text(job), shape_of(rank), 1).status();
}

void refused(const EngineOptions& lead, const EngineOptions& rank, const std::string& why) {
  for (const Status& status : {joined(lead, rank), joined(rank, lead)}) {
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(status.message().find(why), std::string::npos) << status.message();
  }
}

class RankModels : public ::testing::Test {
 protected:
  // A folder with the mini checkpoint's files, some of which are changed after.
  EngineOptions copy(const std::string& name) const {
    EngineOptions options = mini_options();
    fs::copy(options.checkpoint_dir, dir_ / name, fs::copy_options::recursive);
    options.checkpoint_dir = dir_.file(name);
    return options;
  }
  // A fine-tune of the same size: all values of the file but its header are others.
  EngineOptions fine_tune() const {
    EngineOptions options = copy("fine_tune");
    std::fstream file(options.checkpoint_dir + "/diffusion_pytorch_model.safetensors",
                      std::ios::binary | std::ios::in | std::ios::out);
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    uint64_t header = 0;
    std::copy_n(bytes.data(), sizeof(header), reinterpret_cast<char*>(&header));
    for (size_t i = sizeof(header) + header; i < bytes.size(); ++i) bytes[i] = static_cast<char>(bytes[i] ^ 1);
    file.clear();
    file.seekp(0);
    file << bytes;
    return options;
  }
  EngineOptions packed(const EngineOptions& from, const std::string& name) const {
    EngineOptions options = from;
    options.packed_dit = dir_.file(name);
    const Status made = convert_dit(from, options.packed_dit, {[](const std::string&) {}, {}});
    EXPECT_TRUE(made.ok()) << made.message();
    return options;
  }

  TempDir dir_;
};

TEST_F(RankModels, TheSameWeightsJoinFromAnyFolder) {
  const EngineOptions mini = mini_options(), other_folder = copy("elsewhere");
  fs::last_write_time(dir_ / "elsewhere/diffusion_pytorch_model.safetensors", fs::file_time_type());
  fs::rename(dir_ / "elsewhere/diffusion_pytorch_model.safetensors", dir_ / "elsewhere/mini.safetensors");
  EXPECT_TRUE(joined(mini, other_folder).ok()) << joined(mini, other_folder).message();
}

TEST_F(RankModels, AFineTuneOfTheSameSizeIsRefused) {
  refused(mini_options(), fine_tune(), "other weights of the video model");
}

TEST_F(RankModels, OtherAdaptersAreRefused) {
  const std::string goldens = kSource + "/tests/goldens/generate/";
  EngineOptions plain = mini_options();
  plain.checkpoint_dir = goldens + "ckpt";
  EngineOptions adapted = plain, stronger = plain, other_alpha = plain;
  adapted.lora_path = goldens + "lora";
  other_alpha.lora_path = goldens + "lora";
  other_alpha.lora_alpha = adapted.lora_alpha / 2;
  stronger.loras = {{goldens + "lora", 1.5}};
  EXPECT_TRUE(joined(adapted, adapted).ok());
  refused(adapted, plain, "`lora_path`");
  refused(adapted, other_alpha, "`lora_alpha`");
  refused(adapted, stronger, "`loras`");
}

TEST_F(RankModels, APackedFileIsComparedWithOthersOfItsKind) {
  const EngineOptions mini = mini_options(), tuned = fine_tune();
  const EngineOptions one = packed(mini, "one.packed"), other = packed(tuned, "other.packed");
  refused(one, other, "other weights of the video model");
  EXPECT_TRUE(joined(one, packed(mini, "again.packed")).ok());
  EXPECT_TRUE(joined(mini, one).ok());  // made of it, for all that is known
}

TEST_F(RankModels, AnotherConfigIsRefused) {
  const EngineOptions other = copy("config");
  const std::string path = other.checkpoint_dir + "/config.json";
  std::ifstream in(path);
  std::string config((std::istreambuf_iterator<char>(in)), {});
  const std::string rows = "\"text_len\": 64";
  ASSERT_NE(config.find(rows), std::string::npos);
  std::ofstream(path) << config.replace(config.find(rows), rows.size(), "\"text_len\": 32");
  refused(mini_options(), other, "another config.json");
}

}  // namespace
}  // namespace liveavatar
