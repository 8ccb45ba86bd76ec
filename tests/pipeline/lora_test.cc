// The engine's LoRA options: which alpha counts, the order of adapters, and packed files that know their adapters.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "ops/make_backend.h"
#include "support/mini.h"
#include "support/resolved.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
constexpr const char* kNorm = "blocks.0.norm3.weight";

class LoraOptionsTest : public ::testing::Test {
 protected:
  // An adapter with one tensor for the norm: `ending` is diff or set_weight.
  std::string adapter(const std::string& name, const std::string& ending, float value) {
    const std::vector<float> values(static_cast<size_t>(width()), value);
    const std::string bytes = std::to_string(values.size() * 4);
    const std::string header = R"({"diffusion_model.blocks.0.norm3.)" + ending + R"(":{"dtype":"F32","shape":[)" +
                               std::to_string(values.size()) + R"(],"data_offsets":[0,)" + bytes + "]}}";
    const uint64_t length = header.size();
    std::ofstream file(dir_ / name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), 8) << header;
    file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * 4));
    return dir_.file(name);
  }
  PartPaths paths() const { return *find_video_model({.folder = options_.checkpoint_dir}); }
  int64_t width() const { return (*open_part(paths().dit, Part::kVideoModel))->tensors().at(kNorm).shape[0]; }
  std::vector<float> norm() const {
    auto source = open_dit_tensors(paths(), options_);
    EXPECT_TRUE(source.ok()) << source.status().message();
    const TensorInfo& info = source->source->tensors().at(kNorm);
    std::vector<char> raw(static_cast<size_t>(info.shape.elements()) * dtype_bytes(info.dtype));
    EXPECT_TRUE(source->source->read(kNorm, raw.data()).ok());
    std::vector<float> values(static_cast<size_t>(info.shape.elements()));
    convert_to_f32(raw.data(), info.dtype, values.data(), info.shape.elements());
    return values;
  }
  std::string packed() {
    options_.paging_dir = dir_.string();
    Budget budget;
    auto backend = *make_backend("cpu", {.threads = 1, .budget = &budget});
    auto path = paging_file(**Checkpoint::open(options_), *backend, budget);
    EXPECT_TRUE(path.ok()) << path.status().message();
    return *path;
  }

  TempDir dir_;
  EngineOptions options_ = mini_options();
};

TEST_F(LoraOptionsTest, AdaptersAreMergedInOrderWithTheirStrengths) {
  const std::string set = adapter("set.safetensors", "set_weight", 3), add = adapter("add.safetensors", "diff", 2);
  options_.lora_path = set;
  options_.loras = {{add, 0.5}, {add, 2}};
  EXPECT_EQ(norm(), std::vector<float>(static_cast<size_t>(width()), 3 + 1 + 4));
  auto notes = open_dit_tensors(paths(), options_);
  ASSERT_TRUE(notes.ok()) << notes.status().message();
  EXPECT_EQ(notes->notes, (std::vector<std::string>{set + ": replaced 1 tensor, strength 1",
                                                    add + ": added 1 difference, strength 0.5",
                                                    add + ": added 1 difference, strength 2"}));
  options_.lora_path.clear();
  options_.loras = {{add, 1}, {set, 1}};
  EXPECT_EQ(norm(), std::vector<float>(static_cast<size_t>(width()), 3));
  options_.loras = {{dir_.file("nothing"), 1}};
  EXPECT_EQ(open_dit_tensors(paths(), options_).status().code(), ErrorCode::kNotFound);
  options_.loras.clear();
  EXPECT_TRUE(open_dit_tensors(paths(), options_)->notes.empty());
}

// lora_alpha is of Live Avatar's own adapter, however that is given.
TEST_F(LoraOptionsTest, TheAlphaOptionAppliesToLiveAvatarsAdapterOnly) {
  const std::string goldens = kSource + "/tests/goldens/generate/";
  options_.checkpoint_dir = goldens + "ckpt";
  options_.lora_alpha = 2;
  for (bool as_first : {true, false}) {
    options_.lora_path = as_first ? goldens + "lora" : "";
    options_.loras.clear();
    if (!as_first) options_.loras.push_back({goldens + "lora", 0.5});
    const std::string note = open_dit_tensors(paths(), options_)->notes.front();
    EXPECT_NE(note.find("rank 4, alpha 2 (factor 0.5)"), std::string::npos) << note;
  }
}

TEST_F(LoraOptionsTest, APackedFileIsMadeForItsAdapters) {
  const std::string a = adapter("a.safetensors", "diff", 1), b = adapter("b.safetensors", "set_weight", 1);
  const std::string without = packed();
  options_.loras = {{a, 1}, {b, 1}};
  const std::string both = packed();
  EXPECT_NE(both, without);
  EXPECT_EQ(packed(), both);
  options_.loras = {{b, 1}, {a, 1}};
  EXPECT_NE(packed(), both);
  options_.loras = {{a, 1}, {b, 0.9999999}};
  EXPECT_NE(packed(), both);
  options_.packed_dit = both;
  EXPECT_EQ(Checkpoint::open(options_).status().code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace liveavatar
