// Runs the program and looks at what it says and leaves.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/temp_dir.h"

namespace liveavatar {

namespace fs = std::filesystem;
inline const std::string kSource = LA_SOURCE_DIR;
inline const std::string kMini = kSource + "/models/mini", kPortrait = kSource + "/assets/demo/portrait.png",
                         kVoice = kSource + "/assets/demo/voice.wav";

struct Outcome {
  int code = -1;
  std::string text;  // stdout and stderr
};

class CliTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return dir_.file(name); }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }
  static Outcome run(const std::string& arguments) {
    Outcome outcome;
    FILE* pipe = popen((std::string(LA_PROGRAM) + " " + arguments + " 2>&1").c_str(), "r");
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) outcome.text.append(buffer, n);
    int status = pclose(pipe);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return outcome;
  }
  // `generate` at the smallest size with some of its parts replaced.
  Outcome generate(const std::string& more = "", const std::string& image = kPortrait,
                   const std::string& audio = kVoice, const std::string& ckpt = kMini) const {
    return run("generate --ckpt_dir '" + ckpt + "' --image '" + image + "' --audio '" + audio +
               "' --prompt hi --size '64*64' --num_clip 1 --infer_frames 12 --quiet --save_file '" + path("out.mp4") +
               "' " + more);
  }
  // One line that starts with the program's name and holds `says`; the exit code; no file left.
  void expect_refusal(const Outcome& outcome, int code, const std::string& says) const {
    EXPECT_EQ(outcome.code, code) << outcome.text;
    EXPECT_NE(outcome.text.find(says), std::string::npos) << outcome.text;
    EXPECT_EQ(std::count(outcome.text.begin(), outcome.text.end(), '\n'), 1) << outcome.text;
    EXPECT_EQ(outcome.text.rfind("liveavatar: ", 0), 0u) << outcome.text;
    EXPECT_FALSE(fs::exists(path("out.mp4")));
  }
  std::string copy_checkpoint(const std::string& name) const {
    fs::copy(kMini, path(name), fs::copy_options::recursive);
    return path(name);
  }

  TempDir dir_;
};

}  // namespace liveavatar
