// Files with any names, recognised by their tensors.
#include "weights/find_parts.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/temp_dir.h"
#include "weights/part_files.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
const std::string kMini = std::string(LA_SOURCE_DIR) + "/models/mini";

class FindParts : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return dir_.file(name); }

  // A safetensors file of f32 tensors with one element each: only the names count.
  std::string write(const std::string& name, const std::vector<std::string>& tensors) const {
    nlohmann::json header = nlohmann::json::object();
    for (size_t i = 0; i < tensors.size(); ++i)
      header[tensors[i]] = {{"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {4 * i, 4 * i + 4}}};
    std::string json = header.dump();
    uint64_t length = json.size();
    fs::create_directories(fs::path(path(name)).parent_path());
    std::ofstream out(path(name), std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), 8) << json << std::string(4 * tensors.size(), '\0');
    return path(name);
  }
  static std::vector<std::string> with_prefix(const std::string& prefix, std::vector<std::string> names) {
    for (std::string& name : names) name = prefix + name;
    return names;
  }
  // All parts in one folder, and what a person has beside them.
  void write_flat() const {
    write("a.safetensors", with_prefix("model.diffusion_model.", kDit));
    write("b.safetensors", kHfText);
    write("c.safetensors", kVae);
    write("d.safetensors", with_prefix("wav2vec2.", kAudio));
    std::ofstream(path("spiece.model")) << "x";
  }
  PartRequest folder() const { return {.folder = dir_.string()}; }

  const std::vector<std::string> kDit{"blocks.0.self_attn.q.weight", "casual_audio_encoder.encoder.final_linear.weight",
                                      "patch_embedding.weight"};
  const std::vector<std::string> kHfText{"shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight",
                                         "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"};
  const std::vector<std::string> kVae{"decoder.middle.0.residual.0.gamma"};
  const std::vector<std::string> kAudio{"feature_extractor.conv_layers.0.conv.weight",
                                        "encoder.layers.0.attention.q_proj.weight"};
  TempDir dir_;
};

TEST_F(FindParts, FindsAllFilesInOneFolder) {
  write_flat();
  auto paths = find_parts(folder());
  ASSERT_TRUE(paths.ok()) << paths.status().message();
  EXPECT_EQ(paths->dit, path("a.safetensors"));
  EXPECT_EQ(paths->text_encoder, path("b.safetensors"));
  EXPECT_EQ(paths->vae, path("c.safetensors"));
  EXPECT_EQ(paths->audio_encoder, path("d.safetensors"));
  EXPECT_EQ(paths->tokenizer, path("spiece.model"));
  EXPECT_EQ(paths->dit_config + paths->audio_config_dir, "");
}

// The folder's config.json belongs to the part whose keys it has.
TEST_F(FindParts, AConfigBelongsToThePartWhoseKeysItHas) {
  write_flat();
  std::ofstream(path("config.json")) << R"({"num_hidden_layers": 24})";
  EXPECT_EQ(find_parts(folder())->dit_config, "");
  EXPECT_EQ(find_parts(folder())->audio_config_dir, dir_.string());
  std::ofstream(path("config.json")) << R"({"dim": 5120, "ffn_dim": 13824})";
  EXPECT_EQ(find_parts(folder())->dit_config, path("config.json"));
  EXPECT_EQ(find_parts(folder())->audio_config_dir, "");
}

TEST_F(FindParts, BareNamesAreRelativeToTheCurrentFolder) {
  write_flat();
  PartRequest bare{.dit = "a.safetensors", .text_encoder = "b.safetensors", .vae = "c.safetensors"};
  bare.audio_encoder = "d.safetensors";
  fs::create_directory(path("in"));
  const fs::path before = fs::current_path();
  fs::current_path(dir_.path());
  std::ofstream("config.json") << R"({"ffn_dim": 13824, "num_hidden_layers": 24})";
  auto paths = find_parts(bare);
  // A tokenizer beside the folder.
  fs::create_directory("tokenizer");
  fs::rename("spiece.model", "tokenizer/spiece.model");
  fs::rename("b.safetensors", "in/b.safetensors");
  fs::current_path(path("in"));
  auto above = find_parts({.dit = "../a.safetensors",
                           .text_encoder = "b.safetensors",
                           .vae = "../c.safetensors",
                           .audio_encoder = "../d.safetensors"});
  fs::current_path(before);
  ASSERT_TRUE(paths.ok()) << paths.status().message();
  EXPECT_EQ(fs::path(paths->tokenizer).lexically_normal(), "spiece.model");
  EXPECT_EQ(fs::path(paths->dit_config).lexically_normal(), "config.json");
  EXPECT_EQ(paths->audio_config_dir, ".");
  ASSERT_TRUE(above.ok()) << above.status().message();
  EXPECT_EQ(above->tokenizer, "../tokenizer/spiece.model");
}

// Files of related models are not taken for parts.
TEST_F(FindParts, IgnoresRelatedModels) {
  write_flat();
  write("t2v.safetensors", {"blocks.0.self_attn.q.weight", "patch_embedding.weight", "text_embedding.0.weight"});
  write("t5xxl.safetensors", {"shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight",
                              "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                              "encoder.block.1.layer.0.SelfAttention.q.weight"});
  write("sd_vae.safetensors", {"decoder.mid_block.resnets.0.norm1.weight", "encoder.mid_block.resnets.0.norm1.weight"});
  write("lora.safetensors",
        {"diffusion_model.blocks.0.self_attn.q.lora_A.weight", "diffusion_model.blocks.0.self_attn.q.lora_B.weight",
         "diffusion_model.casual_audio_encoder.encoder.final_linear.lora_A.weight"});
  write("loras/whole.safetensors", kDit);
  auto paths = find_parts(folder());
  ASSERT_TRUE(paths.ok()) << paths.status().message();
  EXPECT_EQ(paths->dit, path("a.safetensors"));
  EXPECT_EQ(paths->text_encoder, path("b.safetensors"));
  EXPECT_EQ(paths->vae, path("c.safetensors"));
  EXPECT_EQ(inspect_file(path("lora.safetensors")).part, "LoRA");
}

TEST_F(FindParts, FindsATokenizerInsideTheTextEncoder) {
  write_flat();
  fs::remove(path("spiece.model"));
  EXPECT_NE(find_parts(folder()).status().message().find("`tokenizer` FILE"), std::string::npos);
  std::vector<std::string> names = kHfText;
  names.push_back("spiece_model");
  write("b.safetensors", names);
  EXPECT_EQ(find_parts(folder())->tokenizer, path("b.safetensors"));
}

TEST_F(FindParts, ShardsAreOneCandidate) {
  write_flat();
  fs::remove(path("a.safetensors"));
  write("x-1.safetensors", {kDit[0]});
  write("x-2.safetensors", {kDit[1], kDit[2]});
  nlohmann::json index;
  index["weight_map"] = {{kDit[0], "x-1.safetensors"}, {kDit[1], "x-2.safetensors"}, {kDit[2], "x-2.safetensors"}};
  std::ofstream(path("x.safetensors.index.json")) << index.dump();
  auto paths = find_parts(folder());
  ASSERT_TRUE(paths.ok()) << paths.status().message();
  EXPECT_EQ(paths->dit, path("x.safetensors.index.json"));
  EXPECT_TRUE(open_part(paths->dit, Part::kVideoModel).ok());
  EXPECT_EQ(files_behind(paths->dit).size(), 3u);
  fs::remove(path("x-2.safetensors"));
  EXPECT_NE(find_parts(folder()).status().message().find("x-2.safetensors"), std::string::npos);
}

TEST_F(FindParts, NamesEachDanglingLink) {
  write_flat();
  for (const char* name : {"x.safetensors", "y.safetensors"}) {
    fs::create_symlink(path("nowhere"), path(name));
    EXPECT_EQ(open_file_or_shards(path(name)).status().code(), ErrorCode::kNotFound);
  }
  int named = 0;
  for (const WeightsFile& file : list_weights_files(dir_.string()))
    named += file.problem == file.path + ": a link to a file that is not there; download that, or remove the link";
  EXPECT_EQ(named, 2);
  EXPECT_TRUE(find_parts(folder()).ok());
  fs::create_symlink(path("loop.pth"), path("loop.pth"));
  EXPECT_EQ(list_weights_files(dir_.string()).size(), 7u);
  for (const WeightsFile& file : list_weights_files(dir_.string())) {
    if (file.path == path("loop.pth")) {
      EXPECT_EQ(file.problem.rfind(file.path + ": cannot be opened (Too many levels", 0), 0u) << file.problem;
    }
  }
}

// A folder that cannot be read is not an empty one.
TEST_F(FindParts, NamesAnUnreadableFolder) {
  write_flat();
  write("shut/e.safetensors", kDit);
  fs::permissions(path("shut"), fs::perms::none);
  std::vector<WeightsFile> files = list_weights_files(dir_.string());
  bool readable = ::access(path("shut").c_str(), R_OK) == 0;  // to who may read all
  fs::permissions(path("shut"), fs::perms::owner_all);
  bool named = std::any_of(files.begin(), files.end(), [&](const WeightsFile& file) {
    return file.problem.rfind(path("shut") + ": the folder cannot be read (Permission denied)", 0) == 0;
  });
  EXPECT_EQ(named, !readable);
  files = list_weights_files(path("a.safetensors"));
  ASSERT_EQ(files.size(), 1u);
  EXPECT_NE(files.front().problem.find("the folder cannot be read (Not a directory)"), std::string::npos);
}

TEST_F(FindParts, ListsSeveralCandidates) {
  write_flat();
  write("sub/z.safetensors", kDit);
  Status status = find_parts(folder()).status();
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(status.message().find("(a.safetensors, sub/z.safetensors); choose one with `dit_path` FILE"),
            std::string::npos)
      << status.message();
  PartRequest one = folder();
  one.dit = path("sub");
  EXPECT_EQ(find_parts(one)->dit, path("sub/z.safetensors"));
  one.dit = path("nowhere");
  EXPECT_EQ(find_parts(one).status().code(), ErrorCode::kNotFound);
}

// Hugging Face keeps both formats of one model.
TEST_F(FindParts, TheSameWeightsInTwoFormatsAreOneCandidate) {
  write_flat();
  fs::remove(path("c.safetensors"));
  fs::create_directories(path("vae"));
  fs::copy_file(kMini + "/Wan2.1_VAE.pth", path("vae/pytorch_model.bin"));
  EXPECT_EQ(find_parts(folder())->vae, path("vae/pytorch_model.bin"));
  write("vae/model.safetensors", kVae);
  EXPECT_EQ(find_parts(folder())->vae, path("vae/model.safetensors"));
}

TEST_F(FindParts, NamesAllMissingPartsAtOnce) {
  std::string message = find_parts(folder()).status().message();
  for (const char* part : {"`dit_path` FILE", "`text_encoder` FILE", "`vae` FILE", "`audio_encoder` FILE",
                           "`tokenizer` FILE", "diffusion_pytorch_model", "or one .gguf", "spiece.model"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_NE(find_parts({}).status().message().find("`dit_path` FILE"), std::string::npos);
  EXPECT_EQ(find_parts({.folder = "/nowhere"}).status().message(), "`checkpoint_dir` /nowhere: no such folder");
}

TEST_F(FindParts, FindsThePartsOfTheOriginalsFolder) {
  auto paths = find_parts({.folder = kMini});
  ASSERT_TRUE(paths.ok()) << paths.status().message();
  EXPECT_EQ(paths->dit, kMini + "/diffusion_pytorch_model.safetensors");
  EXPECT_EQ(paths->dit_config, kMini + "/config.json");
  EXPECT_EQ(paths->tokenizer, kMini + "/google/umt5-xxl");
  EXPECT_EQ(paths->audio_config_dir, kMini + "/wav2vec2-large-xlsr-53-english");
  EXPECT_EQ(inspect_file(kMini + "/Wan2.1_VAE.pth").part, "video VAE");
}

// The content decides, not the ending.
TEST_F(FindParts, ASafetensorsFileOfAnyNameIsOpened) {
  std::string file = write("model.gguf", kVae);
  EXPECT_TRUE(open_file_or_shards(file).ok()) << open_file_or_shards(file).status().message();
  EXPECT_TRUE(open_file_or_shards(write("blob", kVae)).ok());
}

}  // namespace
}  // namespace liveavatar
