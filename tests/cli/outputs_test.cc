// What a command writes: never over what it reads, one writer a file, and checked before a weight is read.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "fixture.h"
#include "media/contact_sheet.h"

namespace liveavatar {
namespace {

class OutputsTest : public CliTest {
 protected:
  std::string bytes(const std::string& file) const {
    std::ifstream in(file, std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  }
  std::string copy(const std::string& from, const std::string& name) const {
    fs::copy_file(from, path(name), fs::copy_options::overwrite_existing);
    return path(name);
  }
  // Refused as usage, in one line, and the file is what it was.
  void expect_untouched(const std::string& command, const std::string& file) const {
    const std::string before = bytes(file);
    Outcome o = run(command);
    EXPECT_EQ(o.code, 2) << command << "\n" << o.text;
    EXPECT_NE(o.text.find("is the same file as"), std::string::npos) << o.text;
    EXPECT_EQ(std::count(o.text.begin(), o.text.end(), '\n'), 1) << o.text;
    EXPECT_TRUE(bytes(file) == before) << command;
  }
  std::string job(const std::string& image, const std::string& audio, const std::string& ckpt = kMini) const {
    return "generate --quiet --prompt hi --size '64*64' --num_clip 1 --infer_frames 12 --ckpt_dir '" + ckpt +
           "' --image '" + image + "' --audio '" + audio + "' ";
  }
  std::vector<std::string> names(const std::string& folder) const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder)) all.push_back(entry.path().filename().string());
    return all;
  }
  std::string numbered(int i) const { return path(std::string("v").append(std::to_string(i)).append(".mp4")); }
  // Runs all at once and waits.
  static std::vector<Outcome> together(const std::vector<std::string>& commands) {
    std::vector<Outcome> outcomes(commands.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < commands.size(); ++i) threads.emplace_back([&, i] { outcomes[i] = run(commands[i]); });
    for (std::thread& t : threads) t.join();
    return outcomes;
  }
};

TEST_F(OutputsTest, RefusesAnOutputThatIsAnInput) {
  std::string image = copy(kPortrait, "me.png"), audio = copy(kVoice, "talk.mp4"),
              lora = write("lora.safetensors", "x");
  fs::create_symlink(audio, path("link.mp4"));
  fs::create_hard_link(audio, path("hard.mp4"));
  fs::create_directory(path("folder"));
  fs::create_directory_symlink(path("folder"), path("other"));
  std::string inner = copy(kVoice, "folder/talk.mp4");
  for (const std::string& out : {audio, path("link.mp4"), path("hard.mp4"), path("folder/../talk.mp4")})
    expect_untouched(job(image, audio) + "--save_file '" + out + "'", audio);
  expect_untouched(job(image, inner) + "--save_file " + path("other/talk.mp4"), inner);
  const std::string save = "--save_file " + path("out.mp4");
  for (const std::string& out : {image, audio})
    expect_untouched(job(image, audio) + save + " --report '" + out + "'", out);
  expect_untouched(job(image, audio) + save + " --lora_path_dmd " + lora + " --report " + lora, lora);
  EXPECT_FALSE(fs::exists(path("out.mp4")));
  // As a video that comes from the default name.
  std::string named = copy(kVoice, "x_y.mp4");
  fs::create_hard_link(named, path("y.wav"));
  expect_untouched(job(copy(kPortrait, "x.png"), path("y.wav")) + "--save_dir " + dir_.string(), named);
}

TEST_F(OutputsTest, RefusesAnOutputThatIsAFileOfTheCheckpoint) {
  std::string ckpt = copy_checkpoint("ckpt");
  for (const auto& entry : fs::recursive_directory_iterator(ckpt)) {
    if (!entry.is_regular_file()) continue;
    const std::string file = entry.path().string();
    expect_untouched(job(kPortrait, kVoice, ckpt) + "--save_file " + path("out.mp4") + " --report '" + file + "'",
                     file);
    expect_untouched("convert --quiet --ckpt_dir " + ckpt + " --out '" + file + "'", file);
  }
  std::string config = ckpt + "/config.json";
  expect_untouched(
      "bench --quiet --ckpt_dir " + ckpt + " --image " + kPortrait + " --audio " + kVoice + " --json " + config,
      config);
  std::string image = copy(kPortrait, "me.png");
  expect_untouched("bench --quiet --ckpt_dir " + ckpt + " --image " + image + " --audio " + kVoice + " --json " + image,
                   image);
  expect_untouched("sheet " + image + " " + image, image);
  for (const char* name : {"notes.txt", "notes", "old.mp4"}) {
    expect_refusal(run("sheet " + image + " " + write(name, "kept")), 2, "must end in .png");
    EXPECT_EQ(bytes(path(name)), "kept");
  }
  // Results of earlier runs may lie there.
  for (int i = 0; i < 2; ++i) {
    const std::string outputs = "--save_file " + ckpt + "/out.mp4 --report " + ckpt + "/r.json";
    EXPECT_EQ(run(job(kPortrait, kVoice, ckpt) + outputs).code, 0);
  }
}

TEST_F(OutputsTest, RefusesTwoOutputsInOneFile) {
  fs::create_symlink("new.mp4", path("to_new.mp4"));
  for (const std::string& report : {path("new.mp4"), path("./new.mp4"), path("to_new.mp4")}) {
    Outcome o = run(job(kPortrait, kVoice) + "--save_file " + path("new.mp4") + " --report " + report);
    expect_refusal(o, 2, "is the same file as --save_file");
    EXPECT_FALSE(fs::exists(path("new.mp4")));
  }
  EXPECT_EQ(run(job(kPortrait, kVoice) + "--save_file " + path("to_new.mp4") + " --report /dev/null").code, 0);
  EXPECT_TRUE(fs::exists(path("new.mp4")));
}

TEST_F(OutputsTest, OutputsAreCheckedBeforeAWeightIsRead) {
  // A checkpoint that cannot be read: whatever is said about an output was said before.
  std::string ckpt = copy_checkpoint("broken");
  fs::resize_file(ckpt + "/diffusion_pytorch_model.safetensors", 1000);
  fs::create_directory(path("folder.mp4"));
  const std::string command = job(kPortrait, kVoice, ckpt), save = "--save_file " + path("out.mp4");
  expect_refusal(run(command + "--save_file /nowhere/out.mp4"), 1, "the folder /nowhere is not there");
  expect_refusal(run(command + "--save_dir /nowhere"), 1, "--save_dir /nowhere");
  expect_refusal(run(command + "--save_file " + path("folder.mp4")), 1, "is a folder");
  expect_refusal(run(command + "--save_file " + path("out.avi")), 2, "must end in .mp4");
  expect_refusal(run(command + "--save_file " + path("out")), 2, "must end in .mp4");
  expect_refusal(run(command + save + " --report /nowhere/r.json"), 1, "the folder /nowhere is not there");
  expect_refusal(run(command + save + " --report " + path("folder.mp4")), 1, "is a folder");
  expect_refusal(run(command + save + " --paging_dir /nowhere"), 1, "--paging_dir /nowhere: no such folder");
  expect_refusal(run(command + save + " --paging_dir " + kPortrait), 2,
                 "--paging_dir " + kPortrait + ": is a file; give a folder");
  const std::string bench = "bench --quiet --image " + kPortrait + " --audio " + kVoice + " --ckpt_dir " + ckpt;
  expect_refusal(run(bench + " --json /nowhere/b.json"), 1, "the folder /nowhere is not there");
  expect_refusal(run("bench --synthetic --shape mini --json " + path("folder.mp4")), 1, "is a folder");
  expect_refusal(run("bench --synthetic --shape mini --paging_dir /nowhere"), 1, "no such folder");
  expect_refusal(run("convert --quiet --ckpt_dir " + ckpt + " --out " + path("folder.mp4")), 1, "is a folder");
  expect_refusal(run("convert --quiet --ckpt_dir " + ckpt + " --out /nowhere/x"), 1,
                 "the folder /nowhere is not there");
  expect_refusal(run("sheet " + kPortrait + " /nowhere/x.png"), 1, "the folder /nowhere is not there");
  fs::create_directory(path("folder.png"));
  expect_refusal(run("sheet " + kPortrait + " " + path("folder.png")), 1, "is a folder");
  // What only a person without all rights meets.
  write("read_only.json", "kept");
  fs::create_directory(path("shut"));
  fs::permissions(path("read_only.json"), fs::perms::owner_read);
  fs::permissions(path("shut"), fs::perms::owner_read | fs::perms::owner_exec);
  if (::access(path("shut").c_str(), W_OK) != 0) {
    expect_refusal(run(command + save + " --report " + path("read_only.json")), 1, "Permission denied");
    expect_refusal(run(command + "--save_file " + path("shut/out.mp4")), 1, "Permission denied");
    expect_refusal(run(command + save + " --paging_dir " + path("shut")), 1, "cannot be made");
  }
  // What was there before a job that fails is there after it, and nothing else.
  write("old.mp4", "an older video");
  EXPECT_EQ(run(command + "--save_file " + path("old.mp4") + " --report " + path("new.json")).code, 1);
  EXPECT_EQ(bytes(path("old.mp4")), "an older video");
  EXPECT_FALSE(fs::exists(path("new.json")));
}

TEST_F(OutputsTest, ASecondWriterIsRefused) {
  const std::string video = path("one.mp4"), packed = path("one.packed");
  int held = ::open(video.c_str(), O_CREAT | O_WRONLY, 0666);
  ASSERT_EQ(::flock(held, LOCK_EX), 0);
  expect_refusal(run(job(kPortrait, kVoice) + "--save_file " + video), 1, "another job writes to it");
  ::close(held);
  EXPECT_EQ(run(job(kPortrait, kVoice) + "--save_file " + video).code, 0);
  int partial = ::open((packed + ".liveavatar-partial").c_str(), O_CREAT | O_WRONLY, 0666);
  ASSERT_EQ(::flock(partial, LOCK_EX), 0);
  expect_refusal(run("convert --quiet --ckpt_dir " + kMini + " --out " + packed), 1, "another job writes it");
  ::close(partial);  // as a killed job leaves it
  EXPECT_EQ(run("convert --quiet --ckpt_dir " + kMini + " --out " + packed).code, 0);
  EXPECT_EQ(names(dir_.string()).size(), 2u);
  EXPECT_EQ(run("info " + packed).code, 0);
}

TEST_F(OutputsTest, TwoJobsWithOneFileMakeOneVideo) {
  ASSERT_EQ(run(job(kPortrait, kVoice) + "--save_file " + path("want.mp4")).code, 0);
  const std::string command = job(kPortrait, kVoice) + "--save_file " + path("one.mp4") + " --report " + path("r.json");
  std::vector<Outcome> outcomes = together({command, command});
  int made = 0;
  for (const Outcome& o : outcomes) {
    made += o.code == 0;
    bool refused = o.text.find("another job writes to it") != std::string::npos;
    EXPECT_TRUE(o.code == 0 || refused) << o.text;
  }
  EXPECT_GE(made, 1);
  EXPECT_TRUE(bytes(path("one.mp4")) == bytes(path("want.mp4")));
}

TEST_F(OutputsTest, JobsShareAFreshPagingFolder) {
  fs::create_directory(path("pages"));
  write("pages/left.packed.liveavatar-partial", "of a killed job");
  ASSERT_EQ(run(job(kPortrait, kVoice) + "--threads 1 --save_file " + numbered(0) + " --report " + path("r.json")).code,
            0);
  size_t whole = nlohmann::json::parse(std::ifstream(path("r.json")))["predicted_peak_bytes"];
  const std::string tight = std::to_string(whole - (1 << 20));
  std::vector<std::string> commands;
  for (int i = 0; i < 4; ++i)
    commands.push_back(job(kPortrait, kVoice) + "--threads 1 --memory_budget " + tight + " --paging_dir " +
                       path("pages") + " --save_file " + numbered(i));
  for (const Outcome& o : together(commands)) EXPECT_EQ(o.code, 0) << o.text;
  EXPECT_EQ(names(path("pages")).size(), 1u);
  for (int i = 1; i < 4; ++i) EXPECT_TRUE(bytes(numbered(0)) == bytes(numbered(i)));
}

// An older video stays what it was until the new one has its first frame.
TEST_F(OutputsTest, AFailureBeforeTheFirstFrameKeepsTheOldVideo) {
  std::string old = copy(kSource + "/tests/cases/talk.mp4", "old.mp4");
  const std::string before = bytes(old);
  Outcome o =
      run("generate --quiet --prompt hi --size '64*64' --ckpt_dir '" + kMini + "' --image '" + kPortrait +
          "' --audio '" + kVoice + "' --save_file '" + old + "' --lora '" + write("bad.safetensors", "x") + "'");
  EXPECT_EQ(o.code, 1) << o.text;
  EXPECT_TRUE(bytes(old) == before);
  Outcome killed = run("--version; timeout -s KILL 0.2 " + std::string(LA_PROGRAM) + " " + job(kPortrait, kVoice) +
                       "--save_file '" + old + "'; true");
  EXPECT_FALSE(bytes(old).empty()) << killed.text;
}

TEST_F(OutputsTest, ConvertDoesNotReplaceAFileThatAnotherJobWrites) {
  std::string out = write("busy.packed", "");
  int fd = open(out.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(fd, LOCK_EX | LOCK_NB), 0);
  Outcome o = run("convert --quiet --ckpt_dir '" + kMini + "' --out '" + out + "'");
  close(fd);
  EXPECT_NE(o.code, 0);
  EXPECT_NE(o.text.find("another job"), std::string::npos) << o.text;
  EXPECT_EQ(run("convert --quiet --ckpt_dir '" + kMini + "' --out '" + out + "'").code, 0);
}

TEST_F(OutputsTest, AFileOfAnotherKindIsNotReplaced) {
  std::string wav = copy(kVoice, "keepme.wav"), png = copy(kPortrait, "portrait.png");
  const std::string before = bytes(wav), picture = bytes(png), no = ": is there and is no ";
  expect_refusal(run(job(kPortrait, kVoice) + "--save_file " + path("v.mp4") + " --report " + wav), 2, no + "JSON");
  expect_refusal(run("bench --synthetic --shape mini --quiet --json " + wav), 2, no + "JSON");
  expect_refusal(run("convert --quiet --ckpt_dir '" + kMini + "' --out " + png), 2, no + "packed model");
  EXPECT_TRUE(bytes(wav) == before && bytes(png) == picture);
  EXPECT_FALSE(fs::exists(path("v.mp4")));
}

// Any page: what is always in memory, what stays and what is paged; the copy in a paging folder too.
TEST_F(OutputsTest, ADamagedPackedFileIsRefused) {
  const std::string packed = path("m.packed"), save = "--save_file " + path("v.mp4");
  ASSERT_EQ(run("convert --quiet --ckpt_dir '" + kMini + "' --out " + packed).code, 0);
  const std::string whole = bytes(packed), with_it = job(kPortrait, kVoice) + save + " --dit " + packed;
  ASSERT_EQ(run(with_it).code, 0);
  for (double place : {0.01, 0.3, 0.6, 0.99}) {
    std::string damaged = whole;
    damaged[size_t(place * double(whole.size()))] ^= 0x10;
    fs::remove(path("v.mp4"));
    Outcome o = run("--version; " + std::string(LA_PROGRAM) + " " + with_it + " --dit " + write("m.packed", damaged));
    EXPECT_EQ(o.code, 1) << place;
    EXPECT_NE(o.text.find("m.packed: is damaged in the"), std::string::npos) << place << o.text;
    EXPECT_FALSE(fs::exists(path("v.mp4")));
  }
}

TEST_F(OutputsTest, ClosedOrFullStreamsDoNotDamageTheOutput) {
  std::string video = path("v.mp4");
  std::string closed = "bash -c \"" + std::string(LA_PROGRAM) + " generate --ckpt_dir '" + kMini + "' --image '" +
                       kPortrait + "' --audio '" + kVoice +
                       "' --prompt hi --size '64*64' --num_clip 1 --infer_frames 12 --save_file '" + video +
                       "' <&- >&- 2>&-\"";
  EXPECT_EQ(std::system(closed.c_str()), 0);
  EXPECT_EQ(bytes(video).substr(4, 4), "ftyp");
  Outcome full = run("plan --ckpt_dir '" + kMini + "' --json > /dev/full");
  EXPECT_EQ(full.code, 1) << full.text;
}

TEST_F(OutputsTest, RefusesAPipeWithoutBlocking) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  expect_refusal(generate("", path("pipe")), 1, "a pipe");
}

}  // namespace
}  // namespace liveavatar
