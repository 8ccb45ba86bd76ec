// What a system or a person can do to the program: no memory, no threads, odd names and numbers, Ctrl-C.
#include <fcntl.h>
#include <signal.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "fixture.h"
#include "media/contact_sheet.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;

class LimitsTest : public CliTest {
 protected:
  std::string job(const std::string& more = "", const std::string& ckpt = kMini) const {
    return "generate --ckpt_dir '" + ckpt + "' --image " + kPortrait + " --audio " + kVoice +
           " --prompt hi --size '64*64' --num_clip 1 --infer_frames 12 --quiet --save_file '" + path("out.mp4") + "' " +
           more;
  }
  // `generate` of that many short videos into videos/.
  std::string sample_list(int count) const {
    std::string list;
    for (int i = 0; i < count; ++i) {
      std::string sample =
          "{\"prompt\": \"hi\", \"image\": \"" + kPortrait + "\", \"audio\": \"" + kVoice + "\", \"num_clip\": 1}";
      list += (i == 0 ? "{" : ", ") + std::string("\"") + std::to_string(i) + "\": " + sample;
    }
    return "generate --quiet --ckpt_dir " + kMini + " --size '64*64' --infer_frames 12 --sample_steps 1 --save_dir " +
           path("videos") + " --sample_list " + write("list.json", list + "}");
  }
  // With limits of the shell. 127: not enough memory for the program's libraries, nothing of ours has run.
  static Outcome limited(const std::string& limits, const std::string& arguments) {
    Outcome outcome;
    std::string command = "ulimit -c 0; " + limits + "; exec " + std::string(LA_PROGRAM) + " " + arguments;
    FILE* pipe = popen(("{ " + command + "; } 2>&1").c_str(), "r");
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) outcome.text.append(buffer, n);
    int status = pclose(pipe);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return outcome;
  }
};

TEST_F(LimitsTest, ReportsMissingAddressSpaceInOneLine) {
  for (int kib = 180'000; kib <= 300'000; kib += 30'000) {
    Outcome o = limited("ulimit -v " + std::to_string(kib), job("--threads 2"));
    EXPECT_TRUE(o.code == 0 || o.code == 1 || o.code == 127) << kib << " " << o.code << " " << o.text;
    if (o.code == 1) expect_refusal(o, 1, "the system");
    fs::remove(path("out.mp4"));
  }
}

TEST_F(LimitsTest, ReportsMissingThreadsInOneLine) {
  // A thread's stack is as large as the limit of the main one's, and there is no memory for that.
  const std::string limits = "ulimit -s 8000000 && ulimit -v 6000000";
  expect_refusal(limited(limits, job("--threads 4")), 1, "4 threads: the system gives no more than 1");
  Outcome convert = limited(limits, "convert --quiet --ckpt_dir " + kMini + " --out " + path("x.packed"));
  EXPECT_EQ(convert.code, 1) << convert.text;
  ASSERT_EQ(run("convert --quiet --ckpt_dir " + kMini + " --out " + path("y.packed")).code, 0);
  Outcome one = limited(limits, job("--threads 1 --dit " + path("y.packed") + " --memory_budget 50MiB"));
  EXPECT_EQ(one.code, 1) << one.text;
}

// libx264 takes more than 64 KiB of its caller's stack at this size.
TEST_F(LimitsTest, ASmallStackIsEnough) {
  for (const char* kib : {"64", "32"}) {
    Outcome o = limited(std::string("ulimit -s ") + kib, job("--size '128*128' --threads 2"));
    EXPECT_EQ(o.code, 0) << kib << " " << o.text;
    EXPECT_TRUE(fs::exists(path("out.mp4"))) << kib;
    fs::remove(path("out.mp4"));
  }
  expect_refusal(limited("ulimit -s 64", job("--size 1")), 2, "--size");
}

// A limit on file size stands for the full disk.
TEST_F(LimitsTest, AFullDiskLeavesNothingHalfMade) {
  const std::string full = "ulimit -f 1";
  expect_refusal(limited(full, "sheet " + kPortrait + " " + path("sheet.png")), 1, path("sheet.png") + ": cannot be");
  expect_refusal(limited(full, "convert --quiet --ckpt_dir " + kMini + " --out " + path("a.packed")), 1, "a.packed");
  Outcome loud = limited(full, "convert --ckpt_dir " + kMini + " --out " + path("a.packed"));
  EXPECT_EQ(loud.code, 1);
  EXPECT_FALSE(loud.text.starts_with("\n") || loud.text.find("\n\n") != std::string::npos) << loud.text;
  EXPECT_TRUE(fs::is_empty(dir_.path()));
}

TEST_F(LimitsTest, CapsTheNumberOfThreads) {
  Clock::time_point start = Clock::now();
  std::string loud = job("--threads 1024");
  loud.replace(loud.find("--quiet "), 8, "");
  // On two CPUs, however many there are.
  Outcome o = limited("taskset -p -c 0,1 $$ > /dev/null", loud);
  EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_NE(o.text.find("note: --threads 1024: "), std::string::npos) << o.text;
  EXPECT_LT(std::chrono::duration<double>(Clock::now() - start).count(), 30);
}

TEST_F(LimitsTest, RefusesBudgetsThatCannotWork) {
  expect_refusal(run(job("--memory_budget 1")), 1, "memory budget 1 byte: this job takes");
  expect_refusal(run(job("--memory_budget 0")), 2, "--memory_budget: 0: nothing runs in that");
  expect_refusal(run(job("--memory_budget -8GiB")), 2, "--memory_budget: -8GiB: give a number of bytes");
  expect_refusal(run(job("--memory_budget 9999999TiB")), 2, "no machine has that much");
}

TEST_F(LimitsTest, AcceptsFileNamesOfAnyBytes) {
  std::string ckpt = copy_checkpoint("caf\xe8"), pages = path("pag\xe8s"), report = path("r\xe8.json");
  fs::create_directory(pages);
  EXPECT_EQ(run("convert --quiet --ckpt_dir '" + ckpt + "' --out '" + path("\xe8.packed") + "'").code, 0);
  EXPECT_EQ(run("info '" + path("\xe8.packed") + "'").code, 0);
  Outcome o = run(job("--report '" + report + "' --threads 1", ckpt));
  ASSERT_EQ(o.code, 0) << o.text;
  size_t whole = nlohmann::json::parse(std::ifstream(report))["predicted_peak_bytes"];
  o = run(job("--threads 1 --paging_dir '" + pages + "' --memory_budget " + std::to_string(whole - (1 << 20)), ckpt));
  EXPECT_EQ(o.code, 0) << o.text;
  o = run("bench --quiet --repeats 1 --ckpt_dir '" + ckpt + "' --image " + kPortrait + " --audio " + kVoice +
          " --size '64*64' --num_clip 1 --infer_frames 12 --json '" + report + "'");
  EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_TRUE(nlohmann::json::accept(std::ifstream(report)));
  fs::remove(path("out.mp4"));
  std::ofstream(ckpt + "/config.json") << "{\"dim\": \"\xe8\"}";
  expect_refusal(run("convert --quiet --ckpt_dir '" + ckpt + "' --out " + path("x")), 1, "config.json");
}

TEST_F(LimitsTest, NamesTheConfigKeyOfAWrongType) {
  auto change = [&](const std::string& file, const std::string& key, const std::string& value) {
    std::string ckpt = path("config" + key + std::to_string(std::hash<std::string>()(value)));
    fs::copy(kMini, ckpt, fs::copy_options::recursive);
    nlohmann::json json = {{"model", nlohmann::json::object()}};  // the mini model has no tokenizer.json
    if (fs::exists(ckpt + "/" + file)) json = nlohmann::json::parse(std::ifstream(ckpt + "/" + file));
    json[key] = nlohmann::json::parse(value);
    std::ofstream(ckpt + "/" + file) << json;
    expect_refusal(run(job("", ckpt)), 1, key);
    fs::remove(path("out.mp4"));
    fs::remove_all(ckpt);
  };
  const std::string audio = "wav2vec2-large-xlsr-53-english/config.json", tokens = "google/umt5-xxl/tokenizer.json";
  change(audio, "feat_extract_norm", "5");
  change(audio, "hidden_size", "\"96\"");
  change("config.json", "eps", "\"x\"");
  change("config.json", "audio_inject_layers", "5");
  change("config.json", "num_layers", "6.5");
  change(tokens, "added_tokens", "5");
  change(tokens, "added_tokens", "[5]");
  change(tokens, "added_tokens", "[{\"id\": \"0\", \"content\": \"<a>\"}]");
  change(tokens, "model", "[]");
  Outcome ok = run(job());
  EXPECT_EQ(ok.code, 0) << ok.text;
}

TEST_F(LimitsTest, RecognisesWebPagesPointersAndEmptyFiles) {
  const std::string page = "\xef\xbb\xbf\n<!DOCTYPE html><html><body>Sign in</body></html>\n";
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n";
  for (const char* name :
       {"diffusion_pytorch_model.safetensors", "config.json", "Wan2.1_VAE.pth", "google/umt5-xxl/spiece.model",
        "google/umt5-xxl/tokenizer.json", "wav2vec2-large-xlsr-53-english/config.json"}) {
    std::string ckpt = copy_checkpoint("wrong"), file = ckpt + "/" + name;
    for (const auto& [bytes, says] : {std::pair(page, "a web page"), {pointer, "Git LFS pointer"}, {"", "is empty"}}) {
      std::ofstream(file) << bytes;
      expect_refusal(run(job("", ckpt)), 1, says);
    }
    fs::remove_all(ckpt);
  }
  for (const char* flag : {"--gguf", "--lora_path_dmd", "--dit"})
    expect_refusal(run(job(std::string(flag) + " " + write("page.safetensors", page))), 1, "a web page");
}

TEST_F(LimitsTest, RefusesPromptsThatAreNotUtf8AndNotesCutOnes) {
  expect_refusal(run(job("--prompt '\xc4\xe3\xba\xc3'")), 2, "byte 1 (0xC4) is not UTF-8");
  expect_refusal(run(job("--prompt 'ab\xed\xa0\x80'")), 2, "byte 3 (0xED)");
  EXPECT_EQ(run(job("--prompt '\xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80'")).code, 0);
  std::string words;
  for (int i = 0; i < 100; ++i) words += "word ";
  const std::string loud = "generate --ckpt_dir " + kMini + " --image " + kPortrait + " --audio " + kVoice +
                           " --size '64*64' --num_clip 1 --infer_frames 12 --save_file " + path("out.mp4");
  Outcome o = run(loud + " --prompt '" + words + "'");
  EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_NE(o.text.find("the text encoder takes 64: the last "), std::string::npos) << o.text;
  EXPECT_EQ(run(loud + " --prompt short").text.find("the text encoder takes"), std::string::npos);
}

TEST_F(LimitsTest, ParsesNumbersExactlyOrRefusesThem) {
  auto budget = [&](const std::string& text) {
    Outcome o = run("plan --shape mini --size '64*64' --json --memory_budget '" + text + "'");
    return o.text.starts_with("{") ? nlohmann::json::parse(o.text)["budget_bytes"].get<size_t>() : 0;
  };
  constexpr size_t kGib = size_t{1} << 30;
  EXPECT_EQ(budget("1.5GiB"), kGib * 3 / 2);
  EXPECT_EQ(budget("1.5g"), kGib * 3 / 2);
  EXPECT_EQ(budget("1536MiB"), kGib * 3 / 2);
  EXPECT_EQ(budget("8G"), kGib * 8);
  EXPECT_EQ(budget("8 gb"), kGib * 8);
  EXPECT_EQ(budget("1073741824"), kGib);
  for (const char* text : {"", "lots", "5 apples", "GiB", "-1GiB", "1..5GiB", "1.5.GiB", "1.5", "1e3GiB", "9999999TiB",
                           "nan", "inf", "0x10", "1GiBs", "1ib", "1 G B"}) {
    Outcome o = run("plan --shape mini --size '64*64' --memory_budget '" + std::string(text) + "'");
    expect_refusal(o, 2, "--memory_budget");
  }
  for (const char* seed : {"18446744073709551616", "99999999999999999999", "-2", "1.5", "0x5", "seed", ""})
    expect_refusal(run(job("--base_seed '" + std::string(seed) + "'")), 2, "--base_seed");
  auto video = [&](const std::string& seed) {
    EXPECT_EQ(run(job("--base_seed " + seed)).code, 0) << seed;
    std::ifstream in(path("out.mp4"), std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  EXPECT_TRUE(video("-1") == video("420"));
  EXPECT_FALSE(video("18446744073709551615") == video("9223372036854775807"));
  fs::remove(path("out.mp4"));
  for (const char* flag : {"--num_clip", "--infer_frames", "--sample_steps", "--threads"})
    expect_refusal(run(job(std::string(flag) + " 99999999999999999999")), 2, flag);
  for (const char* flag : {"--lora_alpha", "--sample_shift"}) {
    expect_refusal(run(job(std::string(flag) + " nan")), 2, flag);
    expect_refusal(run(job(std::string(flag) + " 1e999")), 2, flag);
  }
  Outcome steps = run("plan --shape mini --size '64*64' --json --sample_steps 1000");
  EXPECT_EQ(steps.code, 0) << steps.text;
}

TEST_F(LimitsTest, PlansTheLongestJobAtOnce) {
  const std::string plan = "plan --shape mini --size '64*64' --json --no_online_decode --infer_frames 4800 --num_clip ";
  auto bytes = [&](const std::string& clips) {
    Outcome o = limited("ulimit -v 2000000", plan + clips);
    EXPECT_EQ(o.code, 0) << o.text;
    return o.text.starts_with("{") ? nlohmann::json::parse(o.text)["peak_bytes"].get<size_t>() : 0;
  };
  // 400 blocks a clip, each 16 channels, 3 latents and 8 x 8 pixels of 4 bytes.
  size_t one = bytes("10"), most = bytes("16777216");
  EXPECT_EQ(most - one, size_t{16777216 - 10} * 400 * 16 * 3 * 8 * 8 * 4);
  expect_refusal(limited("ulimit -v 2000000", plan + "1099511627776"), 2, "--num_clip");
}

// A list may be longer than a process may have files open.
TEST_F(LimitsTest, ALongListNeedsFewOpenFiles) {
  Outcome o = limited("ulimit -n 24", sample_list(24));
  EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_EQ(std::distance(fs::directory_iterator(path("videos")), fs::directory_iterator()), 24);
}

TEST_F(LimitsTest, CtrlCEndsTheChecksOfALongList) {
  Outcome o = limited("(sleep 1; kill -INT $$) & true", sample_list(5000));
  EXPECT_EQ(o.code, 130) << o.text;
  EXPECT_NE(o.text.find("stopped before sample \"0\""), std::string::npos) << o.text;
  EXPECT_TRUE(fs::is_empty(path("videos")));
}

// Whatever it does: it says so at once, ends soon and leaves no file.
TEST_F(LimitsTest, SignalsEndASyntheticBench) {
  fs::create_directory(path("pages"));
  const std::string json = " --json " + path("b.json");
  const std::string runs = "bench --synthetic --size '256*256' --sample_steps 1000 --blocks 100000" + json;
  const std::string packs = "bench --synthetic --shape 14b --resident_layers 0 --paging_dir " + path("pages") + json;
  for (const std::string signal : {"INT", "TERM", "HUP"}) {
    for (const std::string& bench : {runs, packs}) {
      Outcome o = limited("(sleep 0.5; kill -" + signal + " $$) & true", bench);
      if (o.text.find("choose another place") != std::string::npos) continue;  // no room for 14b
      EXPECT_EQ(o.code, 130) << signal << " " << o.text;
      EXPECT_NE(o.text.find("liveavatar: stopping: nothing is written"), std::string::npos) << o.text;
      EXPECT_FALSE(fs::exists(path("b.json")));
      EXPECT_TRUE(fs::is_empty(path("pages")));
    }
  }
}

// A job that runs for minutes, its stderr in a file.
class Running {
 public:
  Running(const std::string& video, const std::string& log) {
    child_ = fork();
    if (child_ != 0) return;
    int out = ::open(log.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0666);
    dup2(out, STDERR_FILENO);
    execl(LA_PROGRAM, LA_PROGRAM, "generate", "--ckpt_dir", kMini.c_str(), "--image", kPortrait.c_str(), "--audio",
          kVoice.c_str(), "--prompt", "hi", "--size", "256*256", "--sample_steps", "1000", "--save_file", video.c_str(),
          nullptr);
    _exit(99);
  }
  void interrupt() const { kill(child_, SIGINT); }
  int wait() const {
    int status = 0;
    waitpid(child_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t child_ = 0;
};

bool within(double seconds, const std::function<bool()>& there) {
  for (Clock::time_point end =
           Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
       Clock::now() < end;) {
    if (there()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return there();
}

TEST_F(LimitsTest, CtrlCReportsAtOnceAndASecondOneExits) {
  const std::string log = path("log"), video = path("stopped.mp4");
  auto text = [&] {
    std::ifstream in(log);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  Running job(video, log);
  ASSERT_TRUE(within(30, [&] { return text().find("sample") != std::string::npos; })) << text();
  job.interrupt();
  EXPECT_TRUE(within(0.2, [&] { return text().find("Ctrl-C again ends it at once") != std::string::npos; })) << text();
  Clock::time_point again = Clock::now();
  job.interrupt();
  EXPECT_EQ(job.wait(), 130);
  EXPECT_EQ(text().find("\n\n"), std::string::npos) << text();  // no line was open
  EXPECT_LT(std::chrono::duration<double>(Clock::now() - again).count(), 0.5);
  EXPECT_FALSE(fs::exists(video));  // no frame was made: nothing that does not play is left
}

TEST_F(LimitsTest, SampleListsAreReadWithinBounds) {
  auto list = [&](const std::string& file) {
    return run("generate --quiet --sample_list " + file + " --save_dir " + path("new"));
  };
  fs::create_symlink("/dev/zero", path("z.json"));
  expect_refusal(list(path("z.json")), 2, "is no regular file");
  expect_refusal(list(write("big.json", "{")), 2, "is not JSON");
  fs::resize_file(path("big.json"), (64 << 20) + 1);
  expect_refusal(list(path("big.json")), 2, "more than 64 MiB");
  const std::string files = R"("image":"a.png","audio":"a.wav"})";
  auto sample = [&](const std::string& name, const std::string& prompt) {
    return "\"" + name + "\":{\"prompt\":\"" + prompt + "\"," + files;
  };
  expect_refusal(list(write("p.json", "{" + sample("a", std::string((1 << 20) + 1, 'x')) + "}")), 2,
                 "prompt has more than 1 MiB");
  expect_refusal(list(write("t.json", "{" + sample("a", "x") + "," + sample("a", "y") + "}")), 2,
                 "\"a\" is there twice");
  expect_refusal(list(write("n.json", R"({"a":{"prompt":"x","image":"a\u0000b","audio":"c"}})")), 2,
                 "image holds a NUL");
  const std::string yaml = "a: {prompt: x, image: a.png, audio: a.wav}\n";
  expect_refusal(list(write("t.yaml", yaml + yaml)), 2, "\"a\" is there twice");
  expect_refusal(list(write("d.yaml", yaml + "---\nb" + yaml.substr(1))), 2, "several YAML documents");
  EXPECT_FALSE(fs::exists(path("new")));
}

TEST_F(LimitsTest, RefusesContradictoryAndExtraArguments) {
  expect_refusal(run("generate --fp8 --weights_dtype int8 --image x --audio y"), 2, "contradict each other");
  expect_refusal(run("plan --fp8 --weights_dtype int8"), 2, "contradict each other");
  expect_refusal(run("generate --enable_online_decode --no_online_decode --image x --audio y"), 2,
                 "contradict each other");
  expect_refusal(run("doctor -- extra"), 2, "unknown argument extra");
  expect_refusal(run("generate --steps 4"), 2, "did you mean --sample_steps?");
  const std::string inputs = " --image " + kPortrait + " --audio " + kVoice;
  expect_refusal(run("generate --quiet --device tpu" + inputs), 2, "choose cpu, cuda, cuda:N or reference");
  expect_refusal(run("generate --quiet --device cuda:" + inputs), 2, "choose cpu, cuda, cuda:N or reference");
  // Whether there is a card, a driver or only a CPU: this one is not there.
  expect_refusal(run("generate --quiet --device cuda:250" + inputs), 1, "choose");
}

TEST_F(LimitsTest, PlansTheModelsOwnSizeByDefault) {
  const std::string inputs = " --image " + kPortrait + " --audio " + kVoice;
  EXPECT_NE(run("plan --ckpt_dir '" + kMini + "'" + inputs).text.find("128x128"), std::string::npos);
  EXPECT_NE(run("plan --shape 14b").text.find("704x384"), std::string::npos);
  expect_refusal(run("info " + kSource + "/models/minni"), 1, "no such file or folder in");
  expect_refusal(run("generate --quiet --ckpt_dir " + kPortrait + inputs), 2, "is a file; give the folder");
}

TEST_F(LimitsTest, LinksInACheckpointAreFollowedOnce) {
  std::string ckpt = copy_checkpoint("looped");
  for (const char* name : {"a", "b", "c", "d", "e"}) fs::create_directory_symlink(".", ckpt + "/" + name);
  auto begin = std::chrono::steady_clock::now();
  Outcome o = generate("--save_file " + path("v.mp4"), kPortrait, kVoice, ckpt);
  EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

}  // namespace
}  // namespace liveavatar
