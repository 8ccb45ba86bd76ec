// The small inputs of tests/cases as a user brings them to the program; those that only a reader sees are in
// tests/media.
#include "fixture.h"

namespace liveavatar {
namespace {

const std::string kCases = kSource + "/tests/cases/";

class CasesTest : public CliTest {
 protected:
  // The smallest job with notes, its output beside.
  Outcome job(const std::string& more, const std::string& image = kCases + "base.png",
              const std::string& audio = kCases + "v1.wav") const {
    return run("generate --ckpt_dir '" + kMini + "' --image '" + image + "' --audio '" + audio +
               "' --prompt hi --size '64*64' --num_clip 1 --infer_frames 12 --save_file '" + path("out.mp4") + "' " +
               more);
  }
  std::string bytes(const std::string& file) const {
    std::ifstream in(file, std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  }
  void expect_merged(const std::string& plain, const std::string& flags, const std::string& says) const {
    Outcome merged = job(flags);
    EXPECT_EQ(merged.code, 0) << merged.text;
    EXPECT_NE(merged.text.find(says), std::string::npos) << merged.text;
    EXPECT_TRUE(bytes(path("out.mp4")) != plain) << flags;
  }
};

TEST_F(CasesTest, LorasAreMergedWithTheirOwnFactor) {
  ASSERT_EQ(job("").code, 0);
  const std::string plain = bytes(path("out.mp4"));
  expect_merged(plain, "--lora '" + kCases + "lora_comfy.safetensors'", "rank 4, no alpha (factor 1)");
  expect_merged(plain, "--lora '" + kCases + "lora_kohya.safetensors'", "rank 4, alpha 4 (factor 1)");
  expect_merged(plain, "--lora_path_dmd '" + kCases + "lora_comfy.safetensors'", "(factor 1)");
  expect_merged(plain, "--lora '" + kCases + "peft_folder'", "rank 4, alpha 8 (factor 2)");
  expect_merged(plain, "--lora '" + kCases + "peft_folder/adapter_model.safetensors'", "rank 4, alpha 8 (factor 2)");
}

TEST_F(CasesTest, DoesNotOverwriteTheAudioInputWithTheVideo) {
  fs::copy_file(kCases + "talk.mp4", path("talk.mp4"));
  fs::create_symlink(path("talk.mp4"), path("link.mp4"));
  fs::create_hard_link(path("talk.mp4"), path("hard.mp4"));
  for (const char* output : {"talk.mp4", "link.mp4", "hard.mp4"}) {
    Outcome o = run("generate --ckpt_dir '" + kMini + "' --image '" + kPortrait + "' --audio '" + path("talk.mp4") +
                    "' --prompt hi --save_file '" + path(output) + "'");
    EXPECT_EQ(o.code, 2) << o.text;
    EXPECT_TRUE(bytes(path("talk.mp4")) == bytes(kCases + "talk.mp4")) << output;
  }
}

TEST_F(CasesTest, RefusesAPromptThatIsNotUtf8) {
  Outcome o = job("--quiet --prompt \"$(cat '" + kCases + "gbk_prompt.txt')\"");
  expect_refusal(o, 2, "not UTF-8");
}

TEST_F(CasesTest, EveryImageFormatBecomesAVideo) {
  for (const char* picture : {"50%discount.png", "pct/me%d.png", "orient6.png", "orient6.tif", "orient6.jpg",
                              "iphone.heic", "bt709.avif", "turned.avif", "anim.webp"}) {
    Outcome o = job("--quiet", kCases + picture);
    EXPECT_EQ(o.code, 0) << picture << "\n" << o.text;
  }
}

TEST_F(CasesTest, NamesAnImageThatCannotBeRead) {
  expect_refusal(job("--quiet", kCases + "cut.jpg"), 1, "cut off");
  expect_refusal(job("--quiet", kCases + "mono20000.png"), 1, "20000");
}

TEST_F(CasesTest, AntiphaseStereoIsMixedAudiblyWithANote) {
  Outcome o = job("", kCases + "base.png", kCases + "antiphase.wav");
  EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_NE(o.text.find("channels cancel each other"), std::string::npos) << o.text;
}

// A scale that would be ignored makes noise of a video: info and generate say so.
TEST_F(CasesTest, InfoNamesAnUnknownCompanionTensor) {
  std::string header = R"({"blocks.0.self_attn.q.weight":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},)"
                       R"("blocks.0.self_attn.q.scale_foo":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})";
  uint64_t length = header.size();
  std::string bytes_of_file(reinterpret_cast<char*>(&length), 8);
  bytes_of_file.append(header).append(8, '\0');
  Outcome o = run("info '" + write("odd.safetensors", bytes_of_file) + "'");
  EXPECT_EQ(o.code, 1) << o.text;
  EXPECT_NE(o.text.find("scale_foo"), std::string::npos) << o.text;
}

}  // namespace
}  // namespace liveavatar
