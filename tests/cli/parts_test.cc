// Parts of a model from different folders and files.
#include "fixture.h"

namespace liveavatar {
namespace {

class Parts : public CliTest {
 protected:
  // A part of the mini model under another name; its config.json, where it has one, beside it.
  std::string link(const std::string& part, const std::string& name, const std::string& config = "") const {
    fs::create_directories(fs::path(path(name)).parent_path());
    fs::create_symlink(kMini + "/" + part, path(name));
    if (!config.empty()) fs::copy_file(kMini + "/" + config, fs::path(path(name)).parent_path() / "config.json");
    return path(name);
  }
  const std::string kDit = "diffusion_pytorch_model.safetensors", kText = "models_t5_umt5-xxl-enc-bf16.pth",
                    kVae = "Wan2.1_VAE.pth", kAudio = "wav2vec2-large-xlsr-53-english/model.safetensors",
                    kAudioConfig = "wav2vec2-large-xlsr-53-english/config.json",
                    kTokenizer = "google/umt5-xxl/spiece.model";

  // As ComfyUI keeps them.
  std::string comfy_tree() const {
    link(kDit, "models/diffusion_models/s2v.safetensors", "config.json");
    link(kText, "models/text_encoders/umt5.pth");
    link(kTokenizer, "models/text_encoders/spiece.model");
    link(kVae, "models/vae/wan.pth");
    link(kAudio, "models/audio_encoders/voice.safetensors", kAudioConfig);
    return path("models");
  }
  Outcome job(const std::string& flags) const {
    return run("generate --image '" + kPortrait + "' --audio '" + kVoice +
               "' --prompt hi --size '64*64' --num_clip 1 --infer_frames 12 --quiet --save_file '" + path("out.mp4") +
               "' " + flags);
  }
  std::string video(const std::string& flags) const {
    fs::remove(path("out.mp4"));
    Outcome o = job(flags);
    EXPECT_EQ(o.code, 0) << flags << "\n" << o.text;
    std::ifstream in(path("out.mp4"), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    fs::remove(path("out.mp4"));
    return bytes;
  }
};

TEST_F(Parts, TakesEachPartByItsOwnFlagOrFromATree) {
  std::string want = video("--ckpt_dir '" + kMini + "'"), tree = comfy_tree();
  ASSERT_FALSE(want.empty());
  EXPECT_TRUE(video("--ckpt_dir " + tree) == want);
  EXPECT_TRUE(video("--ckpt_dir " + path("")) == want);  // the folder above it
  const std::string flags = "--dit " + tree + "/diffusion_models/s2v.safetensors --text_encoder " + tree +
                            "/text_encoders/umt5.pth --tokenizer " + tree + "/text_encoders/spiece.model --vae " +
                            tree + "/vae/wan.pth --audio_encoder " + tree + "/audio_encoders/voice.safetensors";
  EXPECT_TRUE(video(flags) == want);
  // Folders.
  EXPECT_TRUE(video("--dit " + tree + "/diffusion_models --text_encoder " + tree + "/text_encoders --vae " + tree +
                    "/vae --audio-encoder " + tree + "/audio_encoders --tokenizer " + tree + "/text_encoders") == want);
  // A part beside the folder's.
  EXPECT_TRUE(video("--ckpt_dir '" + kMini + "' --vae " + tree + "/vae/wan.pth --dit " + tree +
                    "/diffusion_models/s2v.safetensors") == want);
  EXPECT_EQ(run("plan --size '64*64' " + flags).code, 0);
  EXPECT_EQ(run("convert --quiet --dit " + tree + "/diffusion_models/s2v.safetensors --out " + path("a.packed")).code,
            0);
  EXPECT_TRUE(video("--ckpt_dir " + tree + " --dit " + path("a.packed")) == want);
  expect_refusal(run("convert --quiet --dit " + path("a.packed") + " --out " + path("b.packed")), 2, "already");
  expect_refusal(run("convert --quiet --out " + path("b.packed")), 2, "--ckpt_dir or --dit");
}

TEST_F(Parts, InfoNamesTheFileOfEachPart) {
  std::string tree = comfy_tree();
  Outcome o = run("info " + tree);
  EXPECT_EQ(o.code, 0) << o.text;
  for (const char* file : {"s2v.safetensors", "umt5.pth", "spiece.model", "wan.pth", "voice.safetensors"})
    EXPECT_NE(o.text.find(file), std::string::npos) << file << "\n" << o.text;
  fs::remove(tree + "/vae/wan.pth");
  Outcome lacks = run("info " + tree);
  EXPECT_EQ(lacks.code, 1);
  EXPECT_NE(lacks.text.find("or give --vae FILE"), std::string::npos) << lacks.text;
  auto says = [&](const std::string& file, const std::string& part) {
    Outcome one = run("info '" + file + "'");
    EXPECT_EQ(one.code, 0) << one.text;
    EXPECT_EQ(one.text.rfind(part, 0), 0u) << one.text;
  };
  says(kMini + "/" + kDit, "video model");
  says(kMini + "/" + kText, "text encoder");
  says(kMini + "/" + kVae, "video VAE");
  says(kMini + "/" + kAudio, "audio encoder");
  says(std::string(LA_GOLDENS) + "/lora/adapter_plain.safetensors", "LoRA");
  EXPECT_EQ(run("info '" + kPortrait + "'").code, 1);
}

TEST_F(Parts, NamesAMissingPartAndItsFlag) {
  std::string tree = comfy_tree();
  fs::remove_all(tree + "/text_encoders");
  fs::remove_all(tree + "/audio_encoders");
  Outcome o = job("--ckpt_dir " + tree);
  expect_refusal(o, 1, "--text_encoder FILE");
  expect_refusal(o, 1, "--audio_encoder FILE");
  expect_refusal(o, 1, "--tokenizer FILE");
  EXPECT_EQ(o.text.find("--vae"), std::string::npos) << o.text;
  expect_refusal(job("--vae " + tree + "/vae/wan.pth"), 1, "--dit FILE");
  expect_refusal(job("--ckpt_dir '" + kMini + "' --vae /nowhere.pth"), 1, "--vae /nowhere.pth: no such file");
  expect_refusal(job("--ckpt_dir '" + kMini + "' --tokenizer /nowhere"), 1, "--tokenizer /nowhere: no such file");
  expect_refusal(job("--ckpt_dir '" + kMini + "' --vae '" + kMini + "/" + kDit + "'"), 1, "holds no video VAE");
  expect_refusal(job("--ckpt_dir '" + kMini + "' --vae Some-Org/Some-Repo"), 1, "hf download Some-Org/Some-Repo");
  fs::create_directory(path("empty"));
  expect_refusal(job("--ckpt_dir '" + kMini + "' --vae " + path("empty")), 1, "no file in this folder is a video VAE");
}

TEST_F(Parts, AsksForOneOfSeveralCandidates) {
  std::string tree = comfy_tree();
  fs::copy_file(kMini + "/" + kDit, tree + "/diffusion_models/other.safetensors");
  Outcome o = job("--ckpt_dir " + tree);
  expect_refusal(o, 2, "diffusion_models/other.safetensors, diffusion_models/s2v.safetensors");
  expect_refusal(o, 2, "choose one with --dit FILE");
  EXPECT_FALSE(video("--ckpt_dir " + tree + " --dit " + tree + "/diffusion_models/other.safetensors").empty());
  // A link to the same file, an adapter, and the same weights in the other format are no further candidates.
  fs::remove(tree + "/diffusion_models/other.safetensors");
  fs::create_symlink(kMini + "/" + kDit, tree + "/diffusion_models/link.safetensors");
  fs::copy_file(std::string(LA_GOLDENS) + "/lora/adapter_plain.safetensors", tree + "/diffusion_models/l.safetensors");
  fs::copy_file(kMini + "/" + kVae, tree + "/vae/other.pth");
  expect_refusal(job("--ckpt_dir " + tree), 2, "--vae FILE");
  fs::remove(tree + "/vae/other.pth");
  EXPECT_FALSE(video("--ckpt_dir " + tree).empty());
}

// A file that cannot be read may be the one that is missing.
TEST_F(Parts, NamesUnreadableFiles) {
  std::string tree = comfy_tree();
  fs::remove(tree + "/vae/wan.pth");
  write("models/vae/cut.pth", "version https://git-lfs.github.com/spec/v1\n");
  expect_refusal(job("--ckpt_dir " + tree), 1, "cut.pth");
}

// Files with the original's names are preferred, whatever else is in the folder.
TEST_F(Parts, AcceptsTheOriginalsFolder) {
  std::string folder = copy_checkpoint("original");
  fs::copy_file(kMini + "/" + kDit, folder + "/other.safetensors");
  fs::copy_file(kMini + "/" + kVae, folder + "/other.pth");
  EXPECT_FALSE(video("--ckpt_dir " + folder).empty());
}

}  // namespace
}  // namespace liveavatar
