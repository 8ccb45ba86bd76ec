// Adapters on disk: files, folders, PEFT's config; and which of them is Live Avatar's own.

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "lora_fixture.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class LoraFileTest : public LoraFixture {
 protected:
  void SetUp() override { LoraFixture::SetUp(); }

  std::string write(const std::string& name, const std::string& bytes) {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name, std::ios::binary) << bytes;
    return dir_.file(name);
  }
  // Pairs of rank 2, all ones, for modules; `names` is put around a module's name.
  std::string write_pairs(const std::string& file, const std::vector<std::string>& modules,
                          const std::string& prefix = "base_model.model.", const std::string& infix = "") {
    json header;
    size_t at = 0;
    auto add = [&](const std::string& name, int64_t rows, int64_t columns) {
      const size_t bytes = static_cast<size_t>(rows * columns) * 4;
      header[name] = {{"dtype", "F32"}, {"shape", {rows, columns}}, {"data_offsets", {at, at + bytes}}};
      at += bytes;
    };
    for (const std::string& module : modules) {
      add(prefix + module + ".lora_A" + infix + ".weight", 2, kColumns);
      add(prefix + module + ".lora_B" + infix + ".weight", kRows, 2);
    }
    const std::string text = header.dump();
    const uint64_t length = text.size();
    std::string ones;
    for (const float one = 1; ones.size() < at;) ones.append(reinterpret_cast<const char*>(&one), 4);
    return write(file, std::string(reinterpret_cast<const char*>(&length), 8) + text + ones);
  }
  void write_config(const std::string& folder, const json& changes) {
    json config = {{"peft_type", "LORA"},
                   {"r", 2},
                   {"lora_alpha", 8},
                   {"use_rslora", false},
                   {"bias", "none"},
                   {"use_dora", false},
                   {"layer_replication", nullptr},
                   {"init_lora_weights", true},
                   {"target_modules", {"q", "k"}},
                   {"alpha_pattern", json::object()},
                   {"rank_pattern", json::object()}};
    config.merge_patch(changes);
    write(folder + "/adapter_config.json", config.dump());
  }
  std::string error_of_open(const std::string& path) {
    auto opened = open_lora(path);
    EXPECT_FALSE(opened.ok()) << path;
    EXPECT_EQ(opened.status().message().find('\n'), std::string::npos);
    return opened.status().message();
  }
  // What is added to every element of a module's weight, by the factor: the product of ones is 2.
  float factor_of(const LoraAdapter& adapter, const std::string& module) {
    auto merge = merge_lora(base_, adapter);
    EXPECT_TRUE(merge.ok()) << merge.status().message();
    if (!merge.ok()) return 0;
    const std::string name = module + ".weight";
    return (read(*merge->source, name)[0] - read(*base_, name)[0]) / 2;
  }

  TempDir dir_;
};

TEST_F(LoraFileTest, ReadsAPeftFolderWithItsAlpha) {
  const std::string q = "blocks.0.self_attn.q", k = "blocks.11.cross_attn.k";
  const std::string file = write_pairs("peft/adapter_model.safetensors", {q, k});
  write_config("peft", json::object());
  for (const std::string& path : {dir_.file("peft"), file}) {
    auto adapter = open_lora(path);
    ASSERT_TRUE(adapter.ok()) << adapter.status().message();
    adapter->alpha = 64;  // the config's goes before it
    EXPECT_EQ(factor_of(*adapter, q), 4);
    EXPECT_EQ(merge_lora(base_, *adapter)->report.line(),
              file + ": merged 2 matrices, rank 2, alpha 8 (factor 4), strength 1");
  }
  write_config("peft", {{"use_rslora", true}});
  EXPECT_NEAR(factor_of(*open_lora(file), q), 8 / std::sqrt(2.0), 1e-5);
  write_config("peft", {{"lora_alpha", 3.5}, {"alpha_pattern", {{"cross_attn.k", 6}, {"attn.q", 50}, {".*11.*", 70}}}});
  EXPECT_EQ(factor_of(*open_lora(file), q), 1.75);  // "attn.q" is no whole end of a name
  EXPECT_EQ(factor_of(*open_lora(file), k), 35);
  write_config("peft", {{"r", 16}, {"rank_pattern", {{"self_attn.q", 2}, {"blocks.11.cross_attn.k", 2}}}});
  EXPECT_EQ(factor_of(*open_lora(file), k), 4);
  write_config("peft", {{"lora_alpha", 3.5}, {"alpha_pattern", {{"cross_attn.(q|k|v|o)", 6}}}});
  EXPECT_EQ(factor_of(*open_lora(file), k), 3);
  write_config("peft", {{"r", 16}, {"rank_pattern", {{"self_attn.q", 2}}}});
  EXPECT_NE(error_of(*open_lora(file)).find("has rank 2, adapter_config.json says 16"), std::string::npos);
}

TEST_F(LoraFileTest, IgnoresTheConfigOfAnotherAdapter) {
  const std::string file = write_pairs("mixed/comfy.safetensors", {"blocks.0.self_attn.q"}, "diffusion_model.");
  write_config("mixed", {{"r", 16}});
  EXPECT_EQ(factor_of(*open_lora(file), "blocks.0.self_attn.q"), 1);
  // PEFT's names under another file name: its config.
  const std::string renamed = write_pairs("renamed/style.safetensors", {"blocks.0.self_attn.q"});
  write_config("renamed", json::object());
  EXPECT_EQ(factor_of(*open_lora(renamed), "blocks.0.self_attn.q"), 4);
}

TEST_F(LoraFileTest, NamesConfigsItDoesNotUnderstand) {
  write_pairs("peft/adapter_model.safetensors", {"blocks.0.self_attn.q"});
  std::string many_choices;
  for (int i = 0; i < 40; ++i) many_choices += "(a|a)";
  const std::pair<json, const char*> cases[] = {
      {{{"peft_type", "LOHA"}}, "peft_type LOHA is not merged"},
      {{{"peft_type", 3}}, "peft_type is 3, it must be a text"},
      {{{"peft_type", nullptr}}, "peft_type is missing, it must be a text"},
      {{{"use_dora", true}}, "use_dora is not merged"},
      {{{"use_qalora", true}}, "use_qalora is not merged"},
      {{{"use_dora", "no"}}, "use_dora is \"no\", it must be true or false"},
      {{{"use_rslora", 1}}, "use_rslora is 1, it must be true or false"},
      {{{"fan_in_fan_out", true}}, "fan_in_fan_out is not merged"},
      {{{"lora_bias", true}}, "lora_bias is not merged"},
      {{{"layer_replication", {{0, 1}}}}, "layer_replication is not merged"},
      {{{"init_lora_weights", "pissa_niter_4"}}, "init_lora_weights pissa_niter_4 is not merged"},
      {{{"r", 0}}, "r is 0, it must be a whole number from 1"},
      {{{"r", "4"}}, "r is \"4\", it must be a whole number"},
      {{{"r", 2.5}}, "r is 2.5, it must be a whole number"},
      {{{"r", nullptr}}, "r is missing, it must be a whole number"},
      {{{"lora_alpha", "8"}}, "lora_alpha is \"8\", it must be a number"},
      {{{"lora_alpha", nullptr}}, "lora_alpha is missing, it must be a number"},
      {{{"alpha_pattern", 4}}, "alpha_pattern is 4, it must be an object"},
      {{{"alpha_pattern", {{"q", "4"}}}}, "alpha_pattern: q is \"4\", it must be a number"},
      {{{"alpha_pattern", {{"q(", 4}}}}, "alpha_pattern: q( must be a regular expression"},
      {{{"alpha_pattern", {{many_choices, 4}}}}, "must be a regular expression with few repetitions and alternatives"},
      {{{"alpha_pattern", {{"a?b?c?d?e?f?g?h?i?", 4}}}}, "must be a regular expression with few repetitions"},
      {{{"rank_pattern", {{"q", -1}}}}, "rank_pattern: q is -1, it must be a whole number"},
  };
  for (const auto& [changes, says] : cases) {
    write_config("peft", changes);
    const std::string message = error_of_open(dir_.file("peft"));
    EXPECT_NE(message.find(says), std::string::npos) << message << "; wanted " << says;
    EXPECT_NE(message.find("adapter_config.json: "), std::string::npos) << message;
  }
  write("peft/adapter_config.json", "{\"r\": 2, ");
  EXPECT_NE(error_of_open(dir_.file("peft")).find("not JSON at line 1, byte 9"), std::string::npos);
  write_config("peft", {{"init_lora_weights", "gaussian"}, {"alpha_pattern", nullptr}});
  EXPECT_TRUE(open_lora(dir_.file("peft")).ok());
}

TEST_F(LoraFileTest, FindsTheAdapterInAFileOrAFolder) {
  EXPECT_NE(error_of_open("Someone/Some-LoRA").find("must be downloaded first"), std::string::npos);
  fs::create_directories(dir_ / "empty");
  EXPECT_NE(error_of_open(dir_.file("empty")).find("nor a folder with liveavatar.safetensors"), std::string::npos);
  const std::string one = write_pairs("style/one.safetensors", {"blocks.0.self_attn.q"});
  EXPECT_EQ(find_lora(dir_.file("style"))->weights, one);
  write_pairs("style/two.safetensors", {"blocks.0.self_attn.q"});
  EXPECT_NE(error_of_open(dir_.file("style")).find("(one.safetensors, two.safetensors"), std::string::npos);
  const std::string known = write_pairs("style/pytorch_lora_weights.safetensors", {"blocks.0.self_attn.q"});
  EXPECT_EQ(find_lora(dir_.file("style"))->weights, known);
  error_of_open(write("broken.safetensors", "no adapter"));
}

TEST_F(LoraFileTest, RecognisesLiveAvatarsOwnAdapter) {
  const std::vector<std::string> its = {"blocks.0.self_attn.q", "audio_injector.injector.1.o"};
  auto own = [&](const std::string& path) { return is_live_avatar_lora(*open_lora(path)); };
  for (const char* infix : {"", ".default"}) {
    EXPECT_TRUE(own(write_pairs("a/any.safetensors", its, "base_model.model.", infix)));
    EXPECT_TRUE(own(write_pairs("a/liveavatar.safetensors", its, "", infix)));
    EXPECT_FALSE(own(write_pairs("a/any.safetensors", its, "", infix)));
    EXPECT_FALSE(own(write_pairs("a/liveavatar.safetensors", its, "diffusion_model.", infix)));
    EXPECT_FALSE(own(write_pairs("a/any.safetensors", {its[0]}, "base_model.model.", infix)));
  }
  const std::string with_config = write_pairs("b/adapter_model.safetensors", its);
  EXPECT_TRUE(own(with_config));
  write_config("b", json::object());
  EXPECT_FALSE(own(with_config));
  auto with_alpha = adapter();
  with_alpha->add("base_model.model.audio_injector.injector.1.o.lora_A.weight", {2, kColumns}, some(2 * kColumns))
      .add("base_model.model.audio_injector.injector.1.o.lora_B.weight", {kRows, 2}, some(kRows * 2));
  EXPECT_TRUE(is_live_avatar_lora({.source = with_alpha}));
  with_alpha->add("base_model.model.audio_injector.injector.1.o.alpha", {}, {4});
  EXPECT_FALSE(is_live_avatar_lora({.source = with_alpha}));
}

}  // namespace
}  // namespace liveavatar
