// The program as a person meets it: what it says, how it ends, what it leaves on disk.
#include <signal.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "fixture.h"
#include "media/contact_sheet.h"
#include "support/read_mono.h"

namespace liveavatar {
namespace {

TEST_F(CliTest, HelpNamesTheCommandsAndAnExample) {
  Outcome top = run("--help"), generate = run("generate --help");
  EXPECT_EQ(top.code, 0);
  EXPECT_NE(top.text.find("First video"), std::string::npos);
  EXPECT_EQ(generate.code, 0);
  for (const char* word : {"--image", "--no_online_decode", "--report", "Examples", "Exit codes"})
    EXPECT_NE(generate.text.find(word), std::string::npos) << word;
  EXPECT_EQ(run("").code, 2);
}

TEST_F(CliTest, SuggestsTheNearestFlagOrCommand) {
  expect_refusal(generate("--smaple_steps 3"), 2, "did you mean --sample_steps?");
  expect_refusal(run("generat"), 2, "did you mean generate?");
  expect_refusal(run("generate"), 2, "required");
}

TEST_F(CliTest, AcceptsDashesAndNotesFlagsOfTheOriginal) {
  Outcome o =
      run("generate --ckpt-dir " + kMini + " --image " + kPortrait + " --audio " + kVoice +
          " --prompt hi --size '64*64' --num-clip 1 --infer-frames 10 --num_gpus_dit 4 --offload_model True --t5_cpu "
          "--fp8 --save-file " +
          path("a.mp4"));
  EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_NE(o.text.find("note: --num_gpus_dit 4: one device computes"), std::string::npos) << o.text;
  EXPECT_EQ(o.text.find("--fp8"), std::string::npos);
  EXPECT_NE(o.text.find("note: --offload_model True: "), std::string::npos) << o.text;
  EXPECT_NE(o.text.find("note: --t5_cpu: "), std::string::npos) << o.text;
  EXPECT_NE(o.text.find("--infer_frames 10 becomes 12"), std::string::npos);
  EXPECT_TRUE(fs::exists(path("a.mp4")));
}

TEST_F(CliTest, RefusesUnknownTypesAndFilesThatAreNotGguf) {
  expect_refusal(generate("--weights_dtype int4"), 2, "--weights_dtype");
  expect_refusal(generate("--kv_dtype q4"), 2, "--kv_dtype");
  expect_refusal(generate("--gguf /nowhere.gguf"), 1, "no such file");
  std::string file = write("text.gguf", "this is no model, only text\n");
  expect_refusal(generate("--gguf '" + file + "'"), 1, "not a GGUF file");
  Outcome info = run("info " + kMini + " --gguf '" + file + "'");
  EXPECT_EQ(info.code, 1);
  EXPECT_NE(info.text.find("PROBLEM"), std::string::npos) << info.text;
}

TEST_F(CliTest, Int8ActivationsNeedInt8Weights) {
  expect_refusal(generate("--activations_dtype int8"), 2, "these are as --dtype says; add --weights_dtype int8");
  expect_refusal(generate("--activations_dtype int8 --weights_dtype q4"), 2, "these are q4");
  expect_refusal(generate("--activations_dtype int8 --fp8"), 2, "these are fp8");
  expect_refusal(run("plan --shape mini --activations_dtype int8"), 2, "--weights_dtype int8");
  expect_refusal(run("bench --shape mini --synthetic --quiet --activations_dtype int8"), 2, "--weights_dtype int8");
  const std::string bench =
      "bench --shape mini --synthetic --size '64*64' --blocks 1 --sample_steps 1 --weights_dtype int8 --json " +
      path("b.json");
  auto latents = [&](const std::string& more, bool on) {
    Outcome o = run(bench + more);
    EXPECT_EQ(o.code, 0) << o.text;
    nlohmann::json json = nlohmann::json::parse(std::ifstream(path("b.json")));
    EXPECT_EQ(json["job"]["activations_dtype"], on ? "int8" : "bf16");
    // On a machine that has none it is said, and nothing changes.
    bool has_them = run("doctor").text.find("--activations_dtype int8: off unless asked for") != std::string::npos;
    EXPECT_EQ(o.text.find("note: --activations_dtype") != std::string::npos, on && !has_them) << o.text;
    return json["blocks"][0]["latents"].get<std::string>() + (on && !has_them ? " without" : "");
  };
  EXPECT_NE(latents(" --activations_dtype int8", true), latents(" --activations_dtype same", false));
  const std::string plain = latents(" --device reference", false);
  Outcome said = run(bench + " --device reference --activations_dtype int8");
  EXPECT_NE(said.text.find("note: --activations_dtype int8: the kernels that run here have none"), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(std::ifstream(path("b.json")))["blocks"][0]["latents"], plain);
}

TEST_F(CliTest, TakesRenamedFlagsAndWritesRenamedKeysOfTheVersionBefore) {
  Outcome o = run("plan --shape mini --weights_dtype int8 --int8-products --quiet --json");
  ASSERT_TRUE(o.text.starts_with("{")) << o.text;
  nlohmann::json json = nlohmann::json::parse(o.text);
  EXPECT_EQ(json["job"]["activations_dtype"], "int8");
  EXPECT_EQ(json["job"]["int8_products"], true);
  EXPECT_EQ(json["tenants"], json["memory_by_category"]);
  EXPECT_EQ(json["cures"], json["suggestions"]);
  EXPECT_EQ(json["paging"]["resident_rings"], json["paging"]["resident_kv_caches"]);
  EXPECT_FALSE(json.contains("in_flight"));
  Outcome off = run("plan --shape mini --int8_products=false --json");
  EXPECT_NE(off.text.find("note: --int8_products=false is now --activations_dtype=same\n"), std::string::npos)
      << off.text;
  Outcome rings = run("bench --synthetic --resident_rings=-1");
  EXPECT_EQ(rings.code, 2);
  EXPECT_NE(rings.text.find("liveavatar: --resident_kv_caches: "), std::string::npos) << rings.text;
}

TEST_F(CliTest, RefusesFilesThatAreNotImages) {
  expect_refusal(generate("", "/nowhere.png"), 1, "no such file");
  expect_refusal(generate("", write("empty.png", "")), 1, "empty");
  expect_refusal(generate("", write("text.png", "this is no picture\n")), 1, "text.png");
  std::ifstream file(kPortrait, std::ios::binary);
  std::string png((std::istreambuf_iterator<char>(file)), {});
  expect_refusal(generate("", write("head.png", png.substr(0, 40))), 1, "head.png");
  expect_refusal(generate("", kVoice), 1, "voice.wav");
}

TEST_F(CliTest, RefusesFilesThatHoldNoAudio) {
  expect_refusal(generate("", kPortrait, "/nowhere.wav"), 1, "no such file");
  expect_refusal(generate("", kPortrait, write("empty.wav", "")), 1, "empty");
  expect_refusal(generate("", kPortrait, write("text.wav", "hello, I am a text file\n")), 1, "text.wav");
  expect_refusal(generate("", kPortrait, kPortrait), 1, "portrait.png");
  // One sample of a float WAV that is none.
  for (const char* bad : {"\x00\x00\xc0\x7f", "\x00\x00\x80\x7f", "\x99\x76\x96\x7e"}) {  // NaN, infinity, 1e38
    std::string wave("RIFF\x30\0\0\0WAVEfmt \x10\0\0\0\3\0\1\0\x80\x3e\0\0\0\xfa\0\0\4\0\x20\0data\x0c\0\0\0", 44);
    wave += std::string(4, '\0') + std::string(bad, 4) + std::string(4, '\0');
    expect_refusal(generate("", kPortrait, write("f.wav", wave)), 1, "f.wav: ");
  }
}

TEST_F(CliTest, AcceptsATinyImageAndSilence) {
  // A 1x1 PPM, and a second of zeros.
  std::string ppm = write("dot.ppm", std::string("P6 1 1 255\n\x80\x40\x20", 14));
  std::string header(
      "RIFF\x24\x7d\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00\x00\x7d\x00\x00\x02\x00\x10\x00"
      "data\x00\x7d\x00\x00",
      44);
  std::string silence = write("silence.wav", header + std::string(32000, '\0'));
  Outcome o = generate("", ppm, silence);
  EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_TRUE(fs::exists(path("out.mp4")));
}

TEST_F(CliTest, AcceptsEightHoursOfAudio) {
  // A sparse file: eight hours of 8-bit audio take no space on disk, and must take none in memory.
  constexpr uint32_t kBytes = 8u * 3600 * 16000;
  std::string header(
      "RIFF....WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00\x80\x3e\x00\x00\x01\x00\x08\x00"
      "data....",
      44);
  uint32_t riff = kBytes + 36;
  std::memcpy(&header[4], &riff, 4);
  std::memcpy(&header[40], &kBytes, 4);
  fs::resize_file(write("eight_hours.wav", header), 44 + uintmax_t{kBytes});
  Outcome o = generate("", kPortrait, path("eight_hours.wav"));
  EXPECT_EQ(o.code, 0) << o.text;
}

TEST_F(CliTest, NamesPartsOfDifferentCheckpoints) {
  std::string ckpt = copy_checkpoint("mixed");
  fs::remove_all(ckpt + "/wav2vec2-large-xlsr-53-english");
  fs::copy(std::string(LA_GOLDENS) + "/wav2vec2", ckpt + "/wav2vec2-large-xlsr-53-english",
           fs::copy_options::recursive);
  expect_refusal(generate("", kPortrait, kVoice, ckpt), 1, "different checkpoints");
}

TEST_F(CliTest, RefusesInvalidSizes) {
  for (const char* size : {"huge", "640", "0*0", "-3*5", "1*1", "99999*99999", "20000*20000", "64*64*64"}) {
    expect_refusal(generate(std::string("--size '") + size + "'"), 2, "--size");
  }
  expect_refusal(generate("--sample_steps 1001"), 2, "1000");
  expect_refusal(generate("--num_clip 0"), 2, "num_clip");
}

TEST_F(CliTest, RefusesBrokenCheckpointsInOneLine) {
  std::string ckpt = copy_checkpoint("a");
  fs::remove(ckpt + "/Wan2.1_VAE.pth");
  expect_refusal(generate("", kPortrait, kVoice, ckpt), 1, "Wan2.1_VAE.pth");
  fs::copy_file(std::string(LA_GOLDENS) + "/vae_pth/evil_os_system.pth", ckpt + "/Wan2.1_VAE.pth");
  expect_refusal(generate("", kPortrait, kVoice, ckpt), 1, "nothing is executed");
  fs::remove(ckpt + "/Wan2.1_VAE.pth");
  fs::copy_file(kMini + "/Wan2.1_VAE.pth", ckpt + "/Wan2.1_VAE.pth");
  fs::resize_file(ckpt + "/Wan2.1_VAE.pth", 100'000);
  expect_refusal(generate("", kPortrait, kVoice, ckpt), 1, "truncated");
  std::string other = copy_checkpoint("b");
  fs::resize_file(other + "/diffusion_pytorch_model.safetensors", 1'000'000);
  expect_refusal(generate("", kPortrait, kVoice, other), 1, "truncated");
  expect_refusal(generate("", kPortrait, kVoice, "/nowhere"), 1, "no such folder");
  expect_refusal(generate("--lora_path_dmd Quark-Vision/Live-Avatar"), 1, "hf download Quark-Vision/Live-Avatar");
}

TEST_F(CliTest, NamesATensorWithNan) {
  std::string ckpt = copy_checkpoint("nan"), file = ckpt + "/diffusion_pytorch_model.safetensors";
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  uint64_t header_bytes = 0;
  stream.read(reinterpret_cast<char*>(&header_bytes), 8);
  std::string header(header_bytes, '\0');
  stream.read(header.data(), static_cast<std::streamsize>(header_bytes));
  size_t entry = header.find("\"head.head.weight\""), offsets = header.find("data_offsets", entry);
  uint64_t begin = std::stoull(header.substr(header.find('[', offsets) + 1));
  stream.seekp(static_cast<std::streamoff>(8 + header_bytes + begin));
  stream.write("\xff\x7f", 2);  // bf16 NaN
  stream.close();
  expect_refusal(generate("", kPortrait, kVoice, ckpt), 1, "head.head.weight holds NaN");
}

TEST_F(CliTest, RefusesOutputsThatCannotBeWritten) {
  expect_refusal(generate("--save_file /nowhere/out.mp4"), 1, "/nowhere/out.mp4");
  expect_refusal(generate("--save_file " + path("out.avi")), 2,
                 "liveavatar: --save_file " + path("out.avi") + ": the name must end in .mp4");
}

TEST_F(CliTest, ReportsAFullDiskAndKeepsTheFramesWritten) {
  // A limit on file size stands for the full disk: write() fails the same way.
  Outcome o;
  std::string command = "ulimit -f 40; exec " + std::string(LA_PROGRAM) + " generate --ckpt_dir " + kMini +
                        " --image " + kPortrait + " --audio " + kVoice +
                        " --prompt hi --size '64*64' --quiet --save_file " + path("full.mp4");
  FILE* pipe = popen(("sh -c \"" + command + "\" 2>&1").c_str(), "r");
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) o.text.append(buffer, n);
  EXPECT_EQ(WEXITSTATUS(pclose(pipe)), 1);
  EXPECT_NE(o.text.find("are safe in it"), std::string::npos) << o.text;
  EXPECT_TRUE(write_contact_sheet(path("full.mp4"), path("full.png"), 2, 1).ok());
}

// Starts `generate` on its own and sends `signal` as soon as the file has grown past a second of video.
int interrupted(const std::string& file, int signal) {
  pid_t child = fork();
  if (child == 0) {
    execl(LA_PROGRAM, LA_PROGRAM, "generate", "--ckpt_dir", kMini.c_str(), "--image", kPortrait.c_str(), "--audio",
          kVoice.c_str(), "--prompt", "hi", "--size", "64*64", "--quiet", "--save_file", file.c_str(), nullptr);
    _exit(99);
  }
  std::error_code ignored;
  for (int i = 0; i < 2000 && (!fs::exists(file) || fs::file_size(file, ignored) < 60'000); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  kill(child, signal);
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

TEST_F(CliTest, CtrlCFinishesTheVideoFile) {
  int status = interrupted(path("stopped.mp4"), SIGINT);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
  EXPECT_TRUE(write_contact_sheet(path("stopped.mp4"), path("stopped.png"), 2, 1).ok());
}

TEST_F(CliTest, AKilledRunLeavesAPlayableFile) {
  int status = interrupted(path("killed.mp4"), SIGKILL);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(write_contact_sheet(path("killed.mp4"), path("killed.png"), 2, 1).ok());
  auto sound = read_mono(path("killed.mp4"), 16000);
  ASSERT_TRUE(sound.ok());
  EXPECT_GT(sound->size(), 8000u);
}

// No NVENC opens for 64x64, on any machine.
TEST_F(CliTest, TheVideoEncoderIsCheckedBeforeAnyWorkAndReported) {
  expect_refusal(generate("--video_encoder nvenc"), 1, "--video_encoder nvenc: h264_nvenc ");
  expect_refusal(generate("--video_encoder x265"), 2, "--video_encoder");
  EXPECT_EQ(run("plan --shape mini --video_encoder nvenc --quiet").code, 0);  // for a machine that is not this one
  const std::string report = path("report.json");
  ASSERT_EQ(generate("--report " + report).code, 0);
  std::ifstream file(report);
  EXPECT_EQ(nlohmann::json::parse(file)["video_encoder"], "libx264");
}

TEST_F(CliTest, KvCachesOnDiskArePlannedAndMakeTheSameVideo) {
  std::string plan = run("plan --shape 14b --size '384*256' --offload_kv_cache --paging_dir /tmp").text;
  EXPECT_NE(plan.find("0 of 160 KV caches (a step in a layer) resident, the others paged"), std::string::npos) << plan;
  auto video = [&](const std::string& name, const std::string& more) {
    Outcome o = run("generate --ckpt_dir " + kMini + " --image " + kPortrait + " --audio " + kVoice +
                    " --prompt hi --size '64*64' --num_clip 1 --infer_frames 24 --offload_kv_cache --save_file " +
                    path(name) + more);
    EXPECT_EQ(o.code, 0) << o.text;
    return o.text;
  };
  EXPECT_NE(video("memory.mp4", "").find("keys and values are in host memory"), std::string::npos);
  EXPECT_NE(video("disk.mp4", " --paging_dir " + path("")).find("note: 0 of 24 KV caches"), std::string::npos);
  auto bytes = [&](const std::string& name) {
    std::ifstream in(path(name), std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  EXPECT_FALSE(bytes("disk.mp4").empty());
  EXPECT_EQ(bytes("disk.mp4"), bytes("memory.mp4"));
}

TEST_F(CliTest, RefusesATooSmallBudgetInOneLineWithASuggestion) {
  expect_refusal(generate("--memory_budget 30MiB"), 1, "what fits: --memory_budget");
  expect_refusal(generate("--memory_budget 1KiB"), 1, "this job takes");
}

TEST_F(CliTest, ConvertWritesAFileThatGenerateAndInfoTake) {
  std::string file = path("mini.packed");
  Outcome converted = run("convert --ckpt_dir " + kMini + " --out " + file);
  EXPECT_EQ(converted.code, 0) << converted.text;
  Outcome info = run("info " + file);
  EXPECT_EQ(info.code, 0) << info.text;
  EXPECT_NE(info.text.find("every page is as it was written"), std::string::npos) << info.text;
  EXPECT_EQ(generate("--dit " + file).code, 0);
  auto video = [&] {
    std::ifstream in(path("out.mp4"), std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  std::string paged = video();
  EXPECT_EQ(generate().code, 0);
  EXPECT_EQ(paged, video());
  fs::remove(path("out.mp4"));
  fs::resize_file(file, fs::file_size(file) - 1);
  expect_refusal(generate("--dit " + file), 1, "cut off");
  expect_refusal(run("info " + file), 1, "cut off");
  expect_refusal(generate("--dit " + kPortrait), 1, "portrait.png");
  expect_refusal(generate("--dit /nowhere"), 1, "/nowhere");
  expect_refusal(run("convert --quiet --ckpt_dir /nowhere --out " + file), 1, "--ckpt_dir /nowhere: no such folder");
  expect_refusal(run("convert --quiet --ckpt_dir " + kMini + " --out /nowhere/x"), 1, "/nowhere/x");
}

// False keeps all layers in memory, so that a job that would page is refused; plan says what the flags come to.
TEST_F(CliTest, ObeysTheOffloadFlagOfTheOriginal) {
  std::string file = path("mini.packed");
  ASSERT_EQ(run("convert --quiet --ckpt_dir " + kMini + " --out " + file).code, 0);
  ASSERT_EQ(generate("--dit " + file + " --report " + path("r.json")).code, 0);
  size_t whole = nlohmann::json::parse(std::ifstream(path("r.json")))["predicted_peak_bytes"];
  const std::string tight = "--memory_budget " + std::to_string(whole - (2 << 20));
  EXPECT_EQ(generate("--dit " + file + " " + tight + " --offload_model True").code, 0);
  auto plan = [&](const std::string& more) {
    return nlohmann::json::parse(run("plan --json --ckpt_dir " + kMini + " --size '64*64' --infer_frames 12 --dit " +
                                     file + " --memory_budget 20MiB " + more)
                                     .text);
  };
  EXPECT_EQ(plan("")["paging"]["resident_layers"], 0);
  EXPECT_EQ(plan("--offload_model False")["paging"]["resident_layers"], 6);
  fs::remove(path("out.mp4"));
  expect_refusal(generate("--dit " + file + " " + tight + " --offload_model false"), 2, "--offload_model False: only");
  expect_refusal(generate("--offload_model maybe"), 2, "choose True or False");
  Outcome said = run("plan --shape mini --size '64*64' --offload_model True --t5_cpu");
  EXPECT_NE(said.text.find("--offload_model True: "), std::string::npos) << said.text;
  EXPECT_NE(said.text.find("--t5_cpu: "), std::string::npos) << said.text;
}

// The types that generate takes: the file is narrower, says so, and is read with the same flag.
TEST_F(CliTest, ConvertAndBenchTakeNarrowWeights) {
  std::string wide = path("wide.packed"), file = path("narrow.packed");
  ASSERT_EQ(run("convert --quiet --ckpt_dir " + kMini + " --out " + wide).code, 0);
  for (const char* type : {"int8", "q4"}) {
    const std::string flag = std::string(" --weights_dtype ") + type;
    Outcome converted = run("convert --quiet --ckpt_dir " + kMini + " --out " + file + flag);
    ASSERT_EQ(converted.code, 0) << converted.text;
    EXPECT_LT(fs::file_size(file), fs::file_size(wide) * 3 / 4) << type;
    expect_refusal(generate("--dit " + file), 2, "--weights_dtype");
    EXPECT_EQ(generate("--dit " + file + flag).code, 0);
    fs::remove(path("out.mp4"));
  }
  expect_refusal(run("convert --ckpt_dir " + kMini + " --out " + file + " --weights_dtype int4"), 2, "--weights_dtype");
  expect_refusal(run("convert --quiet --ckpt_dir " + kMini + " --out " + file + " --gguf /nowhere.gguf"), 1,
                 "--dit /nowhere.gguf: no such file");
  const std::string bench = "bench --shape mini --synthetic --quiet --size '64*64' --blocks 1 --sample_steps 1 --json ";
  auto planned = [&](const std::string& more) {
    Outcome o = run(bench + path("b.json") + more);
    EXPECT_EQ(o.code, 0) << o.text;
    return nlohmann::json::parse(std::ifstream(path("b.json")));
  };
  nlohmann::json bf16 = planned(""), q4 = planned(" --weights_dtype q4 --kv_dtype int8");
  EXPECT_LT(q4["predicted_peak_bytes"], bf16["predicted_peak_bytes"]);
  EXPECT_NE(q4["blocks"][0]["latents"], bf16["blocks"][0]["latents"]);
  EXPECT_EQ(q4["job"]["weights_dtype"], "q4");
}

TEST_F(CliTest, BenchMeasuresWithoutACheckpoint) {
  Outcome o = run(
      "bench --shape mini --synthetic --size '64*64' --blocks 3 --sample_steps 2 --resident_layers 2 --paging_dir " +
      dir_.string() + " --json " + path("b.json"));
  EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_NE(o.text.find("2 of 6 layers in memory, wavefront"), std::string::npos) << o.text;
  std::ifstream in(path("b.json"));
  std::string json((std::istreambuf_iterator<char>(in)), {});
  for (const char* key : {"predicted_peak_bytes", "measured_peak_bytes", "run_bytes_read", "turns"})
    EXPECT_NE(json.find(key), std::string::npos) << key;
  expect_refusal(run("bench --shape mini"), 2, "--synthetic");
  expect_refusal(run("bench --synthetic --audio x.wav"), 2, "--audio");
  const std::string tight = "bench --shape mini --synthetic --quiet --size '128*128' --memory_budget ";
  expect_refusal(run(tight + "55MiB"), 1, "--paging_dir");
  expect_refusal(run(tight + "33MiB"), 1, "keys and values paged");
}

TEST_F(CliTest, BenchMeasuresAWholeJobAndLeavesNoFiles) {
  fs::create_directory(path("tmp"));
  Outcome o;
  {
    const std::string flags = " --size '64*64' --num_clip 1 --infer_frames 12 --repeats 1 --quiet --json ";
    setenv("TMPDIR", path("tmp").c_str(), 1);
    o = run("bench --ckpt_dir " + kMini + " --image " + kPortrait + " --audio " + kVoice + flags + path("b.json"));
    unsetenv("TMPDIR");
  }
  ASSERT_EQ(o.code, 0) << o.text;
  EXPECT_TRUE(fs::is_empty(path("tmp")));
  EXPECT_NE(o.text.find("time_to_first_frame_s"), std::string::npos) << o.text;
  nlohmann::json json = nlohmann::json::parse(std::ifstream(path("b.json")));
  EXPECT_EQ(json["mini.frames"], 12);
  EXPECT_GT(json["mini.file_bytes"], 0);
  double rate = json["mini.frames_per_second"], job = json["mini.job_s"], first = json["mini.time_to_first_frame_s"];
  EXPECT_GT(first, 0);
  EXPECT_LE(first, job);
  EXPECT_GE(json["mini.frames_per_second.highest"], rate);
  EXPECT_LE(json["mini.frames_per_second.lowest"], rate);
  double sum = 0;
  for (auto& [key, value] : json.items())
    if (key.starts_with("mini.seconds.") && !key.ends_with("est")) sum += value.get<double>();
  EXPECT_NEAR(sum, job, 0.02 * job);
  expect_refusal(run("bench --ckpt_dir /nowhere --image " + kPortrait + " --audio " + kVoice), 1, "/nowhere");
}

TEST_F(CliTest, InfoReportsBrokenParts) {
  Outcome good = run("info " + kMini);
  EXPECT_EQ(good.code, 0) << good.text;
  EXPECT_NE(good.text.find("every tensor is there"), std::string::npos);
  std::string ckpt = copy_checkpoint("c");
  write("c/Wan2.1_VAE.pth", "version https://git-lfs.github.com/spec/v1\n");
  Outcome bad = run("info " + ckpt);
  EXPECT_EQ(bad.code, 1);
  EXPECT_NE(bad.text.find("PROBLEM"), std::string::npos) << bad.text;
  EXPECT_EQ(run("doctor").code, 0);
}

// Two voices, a mask each and a pose video that is too short, into one file.
TEST_F(CliTest, SeveralSpeakersAndAPose) {
  const std::string goldens = kSource + "/tests/goldens/", two = goldens + "generate_two/";
  const std::string voices = two + "left.wav+" + two + "right.wav";
  std::string flags = "--mask '" + two + "image' --num_clip 4 --sample_solver unipc --quiet=false --pose_video '" +
                      goldens + "pose/pose30.mp4'";
  Outcome made = generate(flags, two + "image.png", voices);
  ASSERT_EQ(made.code, 0) << made.text;
  EXPECT_NE(made.text.find("its last pose is held"), std::string::npos) << made.text;
  EXPECT_NEAR(double(read_mono(path("out.mp4"), 16000)->size()) / 16000, 48 / 25.0, 0.1);
  Outcome missing = generate("", two + "image.png", voices);
  EXPECT_EQ(missing.code, 2);
  EXPECT_NE(missing.text.find("--mask is missing"), std::string::npos) << missing.text;
  fs::remove(path("out.mp4"));
  expect_refusal(generate("--mask " + kPortrait), 2, "leave --mask out");
  EXPECT_EQ(std::count(missing.text.begin(), missing.text.end(), '\n'), 1) << missing.text;
}

}  // namespace
}  // namespace liveavatar
