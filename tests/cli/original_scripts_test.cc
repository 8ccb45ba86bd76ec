// Lines as the original's scripts have them, and the names and lists that they use.
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>

#include "fixture.h"

namespace liveavatar {
namespace {

class OriginalScripts : public CliTest {
 protected:
  // A working folder as the scripts expect it, with the mini model in place of the original's, a short audio file, and
  // the LoRA where the hub's tools would put it.
  void SetUp() override {
    CliTest::SetUp();
    fs::create_directories(path("ckpt"));
    fs::create_directory_symlink(kMini, path("ckpt/Wan2.2-S2V-14B"));
    fs::create_directories(path("examples"));
    fs::copy_file(kPortrait, path("examples/smith.png"));
    write("examples/smith.wav", sound());
    make_repo("Quark-Vision--Live-Avatar", "abc");
    write(kSnapshot + "/liveavatar.safetensors", lora());
    write("hub/models--Quark-Vision--Live-Avatar/refs/main", "abc");
  }
  void make_repo(const std::string& name, const std::string& hash) const {
    fs::create_directories(path("hub/models--" + name + "/refs"));
    fs::create_directories(path("hub/models--" + name + "/snapshots/" + hash));
  }
  // A quarter of a second of silence at 16 kHz, 8 bits.
  static std::string sound() {
    const uint32_t bytes = 4000, riff = bytes + 36;
    std::string header(
        "RIFF....WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00\x80\x3e\x00\x00\x01\x00\x08\x00"
        "data....",
        44);
    std::memcpy(&header[4], &riff, 4);
    std::memcpy(&header[40], &bytes, 4);
    return header + std::string(bytes, '\x80');
  }
  // An adapter of one matrix of the mini model.
  static std::string lora(float value = 0.5f) {
    const std::string module = "base_model.model.blocks.0.self_attn.q.";
    nlohmann::json header;
    header[module + "lora_A.weight"] = {{"dtype", "F32"}, {"shape", {2, 192}}, {"data_offsets", {0, 1536}}};
    header[module + "lora_B.weight"] = {{"dtype", "F32"}, {"shape", {192, 2}}, {"data_offsets", {1536, 3072}}};
    std::string json = header.dump();
    uint64_t bytes = json.size();
    std::string file(reinterpret_cast<const char*>(&bytes), 8);
    file += json;
    for (int i = 0; i < 768; ++i) file.append(reinterpret_cast<const char*>(&value), 4);
    return file;
  }
  // In the working folder, with the cache there.
  Outcome script(const std::string& arguments) const {
    return run_shell("cd '" + path("") + "' && HF_HUB_CACHE='" + path("hub") + "' " + LA_PROGRAM + " " + arguments);
  }
  static Outcome run_shell(const std::string& command) {
    Outcome outcome;
    FILE* pipe = popen(("(" + command + ") 2>&1").c_str(), "r");
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) outcome.text.append(buffer, n);
    int status = pclose(pipe);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return outcome;
  }
  std::string bytes(const std::string& name) const {
    std::ifstream in(path(name), std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  }
  static void expect_notes(const Outcome& outcome, std::initializer_list<const char*> flags) {
    for (const char* flag : flags) {
      size_t at = outcome.text.find(flag), line = at == std::string::npos ? at : outcome.text.rfind('\n', at) + 1;
      ASSERT_NE(at, std::string::npos) << flag << "\n" << outcome.text;
      EXPECT_EQ(outcome.text.compare(line, 6, "note: "), 0) << flag << "\n" << outcome.text;
    }
  }
  const std::string kSnapshot = "hub/models--Quark-Vision--Live-Avatar/snapshots/abc";
  const std::string kInputs =
      " --prompt \"A smith laughs in front of his forge.\" --image \"examples/smith.png\" --audio "
      "\"examples/smith.wav\"";
  // What all of the original's lines share.
  const std::string kShared =
      "generate --ulysses_size 1 --task s2v-14B --base_seed 420 --training_config liveavatar/configs/x.yaml "
      "--convert_model_dtype --infer_frames 48 --load_lora --lora_path_dmd \"Quark-Vision/Live-Avatar\" "
      "--sample_steps 4 --sample_guide_scale 0 --sample_solver euler --ckpt_dir ckpt/Wan2.2-S2V-14B/ --fp8 ";
};

TEST_F(OriginalScripts, TheSingleGpuCommandRuns) {
  Outcome o = script(
      kShared + "--size \"128*128\" --offload_model True --num_clip 10000 --num_gpus_dit 1 --single_gpu" + kInputs);
  EXPECT_EQ(o.code, 0) << o.text;
  expect_notes(o, {"--ulysses_size 1", "--task s2v-14B", "--training_config", "--convert_model_dtype", "--load_lora",
                   "--sample_guide_scale 0", "--num_gpus_dit 1", "--single_gpu", "--offload_model True"});
  EXPECT_GT(bytes("smith_smith.mp4").size(), 1000u);
}

TEST_F(OriginalScripts, TheMultiGpuCommandRuns) {
  Outcome o = script(
      kShared + "--size \"128*128\" --offload_model False --num_clip 10000 --num_gpus_dit 4 --enable_vae_parallel" +
      kInputs);
  EXPECT_EQ(o.code, 0) << o.text;
  expect_notes(o, {"--num_gpus_dit 4", "--enable_vae_parallel", "--offload_model False"});
  EXPECT_GT(bytes("smith_smith.mp4").size(), 1000u);
}

TEST_F(OriginalScripts, TheWebDemoCommandMakesTheDemoVideo) {
  Outcome o = script(kShared +
                     "--size \"64*64\" --offload_model True --num_clip 1 --num_gpus_dit 1 --single_gpu "
                     "--server_port 7860 --server_name \"0.0.0.0\"");
  EXPECT_EQ(o.code, 0) << o.text;
  expect_notes(o, {"--server_port 7860", "--server_name 0.0.0.0", "no --image and --audio"});
  EXPECT_TRUE(fs::exists(path("portrait_voice.mp4")));
  // With a portrait alone the voice is missing.
  expect_refusal(script("generate --quiet --server_port 7860 --image x.png"), 2, "--audio is required");
}

TEST_F(OriginalScripts, EveryOtherOptionIsKnown) {
  Outcome o = script(
      "generate --ckpt-dir ckpt/Wan2.2-S2V-14B --size '64*64' --num-clip 1 --infer-frames 12 --frame_num 80 "
      "--t5-fsdp --dit_fsdp --t5_cpu --start_from_ref --drop_motion_noisy --use_dataset "
      "--dataset_sample_idx 3 --using_merged_ckpt --enable_compile --enable_online_decode "
      "--sample_shift 3.0 --save_file o.mp4 --offload_kv_cache" +
      kInputs);
  EXPECT_EQ(o.code, 0) << o.text;
  expect_notes(
      o, {"--frame_num 80", "--t5_fsdp", "--dit_fsdp", "--t5_cpu", "--start_from_ref", "--drop_motion_noisy",
          "--use_dataset", "--dataset_sample_idx 3", "--using_merged_ckpt", "--enable_compile", "--offload_kv_cache"});
}

TEST_F(OriginalScripts, ValuesOfAnotherTypeAreRefused) {
  for (const char* flag :
       {"--ulysses_size", "--num_gpus_dit", "--frame_num", "--dataset_sample_idx", "--server_port"}) {
    for (const char* value : {" two", " 1.5", " 4x", " +-5", " ++5"}) {
      expect_refusal(script("generate --quiet " + std::string(flag) + value), 2, flag);
    }
  }
  for (const char* value : {"much", "+-0.5"})
    expect_refusal(script("generate --quiet --sample_guide_scale " + std::string(value)), 2, "--sample_guide_scale");
  expect_refusal(script("generate --quiet --task t2v-A14B" + kInputs), 2, "s2v-14B only");
}

TEST_F(OriginalScripts, UnsupportedOptionsNameTheAlternative) {
  for (const char* flags : {"--enable_tts", "--tts_text hello", "--tts_prompt_audio a.wav", "--tts_prompt_text hello"})
    expect_refusal(script("generate --quiet " + std::string(flags)), 2, "give it as --audio FILE");
  for (const char* flags : {"--use_prompt_extend", "--prompt_extend_method local_qwen", "--prompt_extend_model x",
                            "--prompt_extend_target_lang en"})
    expect_refusal(script("generate --quiet " + std::string(flags) + kInputs), 2, "give it as --prompt");
}

TEST_F(OriginalScripts, SampleListsRunOneAfterAnother) {
  const std::string common = "generate --quiet --ckpt_dir ckpt/Wan2.2-S2V-14B --size '64*64' --infer_frames 12 ";
  const std::string good =
      R"({"prompt": "hi", "image": "examples/smith.png", "audio": "examples/smith.wav", "num_clip": 1})";
  write("jobs.json", R"({"first": )" + good +
                         R"(, "lost": {"prompt": "hi", "image": "nowhere.png", "audio": "examples/smith.wav",
                         "num_clip": 1}, "a/b": )" +
                         good + "}");
  Outcome o = script(common + "--sample_list jobs.json --save_dir videos");
  EXPECT_EQ(o.code, 1) << o.text;
  EXPECT_NE(o.text.find("sample \"lost\": "), std::string::npos) << o.text;
  EXPECT_NE(o.text.find("1 of 3 samples failed: lost"), std::string::npos) << o.text;
  EXPECT_FALSE(fs::exists(path("videos/sample_0002_lost.mp4")));
  std::string first = bytes("videos/sample_0001_first.mp4");
  EXPECT_GT(first.size(), 1000u);
  EXPECT_TRUE(first == bytes("videos/sample_0003_a_b.mp4"));
  // The same as alone.
  EXPECT_EQ(script(common + "--num_clip 1 --save_file alone.mp4 --prompt hi --image examples/smith.png --audio "
                            "examples/smith.wav")
                .code,
            0);
  EXPECT_TRUE(first == bytes("alone.mp4"));
  write("jobs.yaml",
        "one:\n  prompt: \"hi\"\n  image: examples/smith.png\n  audio: examples/smith.wav\n  num_clip: 1\n");
  EXPECT_EQ(script(common + "--sample_list jobs.yaml --save_dir videos").code, 0);
  EXPECT_TRUE(first == bytes("videos/sample_0001_one.mp4"));
  // What one sample would write is another's portrait.
  write("videos/sample_0002_b.mp4", "kept");
  write("clash.json", R"({"a": {"prompt": "hi", "image": "videos/sample_0002_b.mp4", "audio": "examples/smith.wav"},
                          "b": )" +
                          good + "}");
  Outcome clash = script(common + "--sample_list clash.json --save_dir videos");
  EXPECT_EQ(clash.code, 1);
  EXPECT_NE(clash.text.find("sample \"b\": --save_dir videos/sample_0002_b.mp4: is the same file as --image"),
            std::string::npos)
      << clash.text;
  EXPECT_EQ(bytes("videos/sample_0002_b.mp4"), "kept");
}

TEST_F(OriginalScripts, RefusesFilesThatAreNotSampleLists) {
  auto refused = [&](const std::string& name, const std::string& text, const std::string& says, int code = 2) {
    if (!text.empty()) write(name, text);
    expect_refusal(script("generate --quiet --ckpt_dir ckpt/Wan2.2-S2V-14B --sample_list " + name), code, says);
  };
  refused("nowhere.json", "", "no such file", 1);
  refused("jobs.txt", "x", ".json, .yaml or .yml");
  refused("huge.json", R"({"a": {"num_clip": 1e999}})", "huge.json: holds a number that is out of range");
  refused("many.json", R"({"a": {"prompt": "x", "image": "y", "audio": "z", "num_clip": 99999999}})", "to 16777216");
  refused("cut.json", "{\"a\": ", "is not JSON at byte 7");
  refused("bad.yaml", "a: [1, 2", "is not YAML at line 1, column ");
  refused("list.json", "[1, 2]", "samples by name");
  refused("text.json", R"({"a": "b"})", "sample \"a\"");
  refused("lacks.json", R"({"a": {"prompt": "x", "image": "y", "num_clip": 1}})", "sample \"a\" lacks audio");
  refused("type.yaml", "a:\n  prompt: x\n  image: y\n  audio: z\n  num_clip: many\n", "num_clip");
  refused("zero.yaml", "a:\n  prompt: x\n  image: y\n  audio: z\n  num_clip: 0\n", "num_clip");
  write("good.yaml", "a:\n  prompt: x\n  image: y\n  audio: z\n  num_clip: 1\n");
  expect_refusal(script("generate --quiet --sample_list good.yaml --save_file x.mp4"), 2, "--save_dir");
}

TEST_F(OriginalScripts, HubNamesAreFoundInTheCache) {
  const std::string job =
      "generate --quiet --size '64*64' --num_clip 1 --infer_frames 12 --save_file out.mp4" + kInputs;
  make_repo("Wan-AI--Wan2.2-S2V-14B", "old");
  make_repo("Wan-AI--Wan2.2-S2V-14B", "new");
  const std::string repo = "hub/models--Wan-AI--Wan2.2-S2V-14B";
  write(repo + "/refs/main", "old\n");
  fs::create_directories(path(repo + "/blobs"));
  for (const auto& entry : fs::recursive_directory_iterator(kMini)) {
    fs::path inside = path(repo + "/snapshots/old") / entry.path().lexically_relative(kMini);
    if (entry.is_directory()) {
      fs::create_directories(inside);
    } else {
      fs::path blob = path(repo + "/blobs/") + std::to_string(std::hash<std::string>()(entry.path()));
      fs::copy_file(entry.path(), blob);
      fs::create_symlink(blob, inside);
    }
  }
  auto with = [&](const std::string& environment) {
    fs::remove(path("out.mp4"));
    return run_shell("cd '" + path("") + "' && unset HF_HUB_CACHE HF_HOME XDG_CACHE_HOME; " + environment + " " +
                     LA_PROGRAM + " " + job + " --ckpt_dir Wan-AI/Wan2.2-S2V-14B");
  };
  const std::string here = path("");
  fs::create_directories(path("home/.cache/huggingface"));
  fs::create_directory_symlink(path("hub"), path("home/.cache/huggingface/hub"));
  EXPECT_EQ(with("HF_HUB_CACHE=" + here + "hub").code, 0);
  EXPECT_EQ(with("HF_HOME=" + here).code, 0);
  EXPECT_EQ(with("XDG_CACHE_HOME=" + here + "home/.cache").code, 0);
  Outcome home = with("HOME=" + here + "home");
  EXPECT_EQ(home.code, 0) << home.text;
  fs::remove(path("out.mp4"));
  // refs/main decides; without it the newest snapshot.
  write(repo + "/refs/main", "new");
  expect_refusal(with("HF_HOME=" + here), 1, "hf download Wan-AI/Wan2.2-S2V-14B");
  fs::remove(path(repo + "/refs/main"));
  auto now = fs::file_time_type::clock::now();
  fs::last_write_time(path(repo + "/snapshots/new"), now - std::chrono::hours(1));
  fs::last_write_time(path(repo + "/snapshots/old"), now);
  EXPECT_EQ(with("HF_HOME=" + here).code, 0);
  fs::remove(path("out.mp4"));
  write(repo + "/refs/main", "gone");
  expect_refusal(with("HF_HOME=" + here), 1, "lacks the snapshot gone");
  write(repo + "/refs/main", "old");
  fs::remove(fs::read_symlink(path(repo + "/snapshots/old/Wan2.1_VAE.pth")));
  Outcome incomplete = with("HF_HOME=" + here);
  expect_refusal(incomplete, 1, "Wan2.1_VAE.pth is missing; complete it: hf download Wan-AI/Wan2.2-S2V-14B");
}

TEST_F(OriginalScripts, NamesTheDownloadOfAMissingHubModel) {
  expect_refusal(script("generate --quiet --ckpt_dir Wan-AI/Wan2.2-S2V-14B-Other" + kInputs), 1,
                 "hf download Wan-AI/Wan2.2-S2V-14B-Other (or hf download Wan-AI/Wan2.2-S2V-14B-Other --local-dir "
                 "ckpt/Wan2.2-S2V-14B-Other");
  expect_refusal(script("generate --quiet --lora_path_dmd some/adapter" + kInputs), 1, "hf download some/adapter");
  // The original's own folders, by their names.
  expect_refusal(script("generate --quiet --ckpt_dir other/Wan2.2-S2V-14B/" + kInputs), 1,
                 "hf download Wan-AI/Wan2.2-S2V-14B --local-dir other/Wan2.2-S2V-14B/");
  fs::remove(path(kSnapshot + "/liveavatar.safetensors"));
  expect_refusal(script("generate --quiet --lora_path_dmd Quark-Vision/Live-Avatar/liveavatar.safetensors" + kInputs),
                 1, "hf download Quark-Vision/Live-Avatar liveavatar.safetensors");
}

TEST_F(OriginalScripts, UsesTheMiniModelWithoutACheckpoint) {
  Outcome o = script("generate --num_clip 1 --infer_frames 12" + kInputs);
  EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_NE(o.text.find("note: no --ckpt_dir: the mini model"), std::string::npos) << o.text;
  EXPECT_NE(o.text.find("128x128"), std::string::npos) << o.text;
}

TEST_F(OriginalScripts, AcceptsFurtherLorasWithStrengths) {
  const std::string job =
      "generate --quiet --size '64*64' --num_clip 1 --infer_frames 12 --save_file out.mp4" + kInputs;
  write("a.safetensors", lora());
  write("with:colon.safetensors", lora());
  fs::create_directory(path("odd:0.5"));
  write("odd:0.5/liveavatar.safetensors", lora());
  auto video = [&](const std::string& flags) {
    fs::remove(path("out.mp4"));
    Outcome o = script(job + flags);
    EXPECT_EQ(o.code, 0) << o.text;
    return bytes("out.mp4");
  };
  std::string plain = video("");
  EXPECT_TRUE(video(" --lora a.safetensors:0") == plain);
  std::string whole = video(" --lora a.safetensors");
  EXPECT_FALSE(whole == plain);
  EXPECT_TRUE(video(" --lora=a.safetensors:1.0") == whole);
  EXPECT_TRUE(video(" --lora with:colon.safetensors") == whole);
  EXPECT_TRUE(video(" --lora with:colon.safetensors:1") == whole);
  EXPECT_TRUE(video(" --lora odd:0.5") == whole);  // a folder of that name
  EXPECT_TRUE(video(" --lora a.safetensors --lora a.safetensors:-1") == plain);
  fs::remove(path("out.mp4"));
  expect_refusal(script(job + " --lora nowhere.safetensors:0.5"), 1, "nowhere.safetensors: ");
  expect_refusal(script(job + " --lora a.safetensors:much"), 1, "a.safetensors:much");
}

}  // namespace
}  // namespace liveavatar
