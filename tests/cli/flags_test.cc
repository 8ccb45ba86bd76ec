// Which arguments are flags, and what a flag's value may look like.
#include <nlohmann/json.hpp>

#include "fixture.h"

namespace liveavatar {
namespace {

TEST_F(CliTest, ValuesThatLookLikeFlagsStayWhatTheyAre) {
  for (const char* prompt : {"--prompt --like_original", "--prompt '--my-word'", "--prompt=--size", "--prompt ''",
                             "--prompt --int8_productss", "--prompt -x"}) {
    Outcome o = generate(prompt);
    EXPECT_EQ(o.code, 0) << prompt << "\n" << o.text;
    EXPECT_EQ(o.text, "") << prompt;
  }
  // An empty value is one, and no flag becomes it.
  fs::remove(path("out.mp4"));
  expect_refusal(generate("--audio= --threads 1"), 2, "--audio is required");
  expect_refusal(generate("--prompt --base-seed 1"), 2, "--prompt: its value is missing before --base-seed");
  expect_refusal(generate("--prompt --activations_dtype int8"), 2, "--prompt=--activations_dtype");
  expect_refusal(generate("--prompt --int8-products"), 2, "--prompt: its value is missing before --int8-products");
  expect_refusal(generate("--base_seed"), 2, "--base_seed");
  Outcome quiet = run("plan --shape mini --like_original --prompt --quiet");
  expect_refusal(quiet, 2, "its value is missing before --quiet");
}

TEST_F(CliTest, FileNamesThatLookLikeFlagsStayWhatTheyAre) {
  fs::copy_file(kPortrait, path("--my-face.png"));
  auto in_folder = [&](const std::string& arguments) {
    return run("--version > /dev/null; cd '" + dir_.string() + "'; " + LA_PROGRAM + " " + arguments);
  };
  Outcome sheet = in_folder("sheet -- --my-face.png o.png");
  EXPECT_EQ(sheet.text.find("__my"), std::string::npos) << sheet.text;
  EXPECT_EQ(sheet.text.find("--my_face"), std::string::npos) << sheet.text;
  Outcome info = in_folder("info -- --like_original");
  EXPECT_NE(info.text.find("--like_original"), std::string::npos) << info.text;
  EXPECT_EQ(info.text.find("is now"), std::string::npos) << info.text;
}

TEST_F(CliTest, AFileNameIsNoField) {
  for (const std::string name : {"`size`.png", "`size`", "a `size` b.png", "x`threads`"}) {
    const std::string file = dir_.file(name);
    expect_refusal(generate("", file), 1, file + ": ");
    expect_refusal(run("info '" + file + "'"), 1, file);
  }
}

TEST_F(CliTest, TheOldSwitchTakesEveryYesAndNo) {
  auto type = [&](const std::string& flag) {
    Outcome o = run("plan --shape mini --weights_dtype int8 --quiet --json " + flag);
    return o.text.starts_with("{") ? nlohmann::json::parse(o.text)["job"]["activations_dtype"].get<std::string>()
                                   : o.text;
  };
  for (const char* yes : {"", "=yes", "=1", "=True", "=ON", "=t", "=y", "=enable"})
    EXPECT_EQ(type(std::string("--int8_products") + yes), "int8") << yes;
  for (const char* no : {"=no", "=0", "=False", "=off", "=n"})
    EXPECT_EQ(type(std::string("--int8-products") + no), "bf16") << no;
  expect_refusal(run("plan --shape mini --int8_products=maybe"), 2, "--int8_products=maybe: choose true or false");
  expect_refusal(run("plan --shape mini --int8-productss"), 2, "did you mean --int8_products?");
}

TEST_F(CliTest, EachBenchRefusesTheFlagsOfTheOther) {
  for (const char* flag : {"--lora x", "--lora_path x", "--lora_alpha 2", "--tokenizer x", "--no_online_decode",
                           "--decode_threads 1", "--no_decode_beside", "--gguf x", "--repeats 1"})
    expect_refusal(run(std::string("bench --synthetic ") + flag), 2, "--synthetic reads no checkpoint");
  for (const char* flag : {"--shape mini", "--blocks 1", "--keep", "--sessions 2"})
    expect_refusal(run(std::string("bench ") + flag), 2, "add --synthetic");
  const std::string bench = "bench --synthetic --quiet --size '128*128' --memory_budget 33MiB --sessions ";
  expect_refusal(run(bench + "2"), 1, "choose fewer --sessions, or a smaller --size");
  EXPECT_EQ(run(bench + "1").text.find("--sessions"), std::string::npos);
}

}  // namespace
}  // namespace liveavatar
