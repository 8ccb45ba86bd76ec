// A part of a checkpoint in the files that people have; the spellings themselves are tests/goldens/files.
#include "weights/part.h"

#include <gtest/gtest.h>

#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "ops/make_backend.h"
#include "support/gguf_writer.h"
#include "support/temp_dir.h"
#include "weights/layer_formats.h"
#include "weights/loader.h"
#include "weights/lora.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

class PartTest : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& bytes) {
    std::ofstream(dir_ / name, std::ios::binary) << bytes;
    return dir_.file(name);
  }
  std::string write_safetensors(const std::string& name, const std::string& header, const std::string& data) {
    uint64_t length = header.size();
    return write(name, std::string(reinterpret_cast<char*>(&length), 8) + header + data);
  }
  static std::string floats(std::initializer_list<float> values) {
    return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(float)};
  }
  // One of two files of a split video model.
  std::string split_part(int number, const std::string& tensor, float value) {
    GgufWriter writer;
    writer.pair("split.no", 2, GgufWriter::bytes(static_cast<uint16_t>(number)));
    writer.pair("split.count", 2, GgufWriter::bytes(uint16_t{2}));
    writer.tensor(tensor, {1}, 0, GgufWriter::bytes(value));
    return writer.file();
  }

  TempDir dir_;
};

TEST_F(PartTest, PartsOfASplitGgufAreReadTogether) {
  std::string first = write("m-00001-of-00002.gguf", split_part(0, "blocks.0.norm3.bias", 1));
  auto alone = open_part(first, Part::kVideoModel);
  ASSERT_FALSE(alone.ok());
  EXPECT_NE(alone.status().message().find("part 1 of 2"), std::string::npos) << alone.status().message();
  EXPECT_NE(alone.status().message().find("m-00002-of-00002.gguf is missing"), std::string::npos);
  std::string second = write("m-00002-of-00002.gguf", split_part(1, "blocks.1.norm3.bias", 2));
  for (const std::string& given : {first, second}) {
    auto both = open_part(given, Part::kVideoModel);
    ASSERT_TRUE(both.ok()) << both.status().message();
    float value = 0;
    ASSERT_TRUE((*both)->read("blocks.0.norm3.bias", &value).ok());
    EXPECT_EQ(value, 1);
    ASSERT_TRUE((*both)->read("blocks.1.norm3.bias", &value).ok());
    EXPECT_EQ(value, 2);
  }
  std::string renamed = write("renamed.gguf", split_part(1, "blocks.1.norm3.bias", 2));
  EXPECT_NE(open_part(renamed, Part::kVideoModel).status().message().find("part 2 of 2"), std::string::npos);
}

TEST_F(PartTest, RecognisesASplitByItsName) {
  GgufWriter writer;
  writer.tensor("blocks.0.norm3.bias", {1}, 0, GgufWriter::bytes(1.0f));
  auto half = open_part(write("m-00001-of-00003.gguf", writer.file()), Part::kVideoModel);
  EXPECT_NE(half.status().message().find("part 1 of 3"), std::string::npos) << half.status().message();
}

TEST_F(PartTest, AppliesScalesStoredBesideWideWeights) {
  std::string header = R"({"blocks.0.self_attn.q.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                       R"("blocks.0.self_attn.q.scale_weight":{"dtype":"F32","shape":[],"data_offsets":[16,20]}})";
  auto part = open_part(write_safetensors("x.safetensors", header, floats({1, -2, 3, 4, 0.5f})), Part::kVideoModel);
  ASSERT_TRUE(part.ok()) << part.status().message();
  float values[4] = {};
  ASSERT_TRUE((*part)->read("blocks.0.self_attn.q.weight", values).ok());
  EXPECT_EQ(values[0], 0.5f);
  EXPECT_EQ(values[1], -1.0f);
  EXPECT_EQ(values[3], 2.0f);
  EXPECT_FALSE((*part)->tensors().contains("blocks.0.self_attn.q.scale_weight"));
}

TEST_F(PartTest, ReadsStoredInt8ValuesUnchanged) {
  std::string header = R"({"blocks.0.self_attn.q.weight":{"dtype":"I8","shape":[2,2],"data_offsets":[0,4]},)"
                       R"("blocks.0.self_attn.q.weight_scale":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]}})";
  std::string int8_values = {1, static_cast<char>(-127), 3, 4};
  auto part = open_part(write_safetensors("x.safetensors", header, int8_values + floats({0.5f, 2})), Part::kVideoModel);
  ASSERT_TRUE(part.ok()) << part.status().message();
  const std::string name = "blocks.0.self_attn.q.weight";
  EXPECT_EQ((*part)->tensors().at(name).quantised, DType::kI8);
  uint8_t got[4] = {};
  float scales[2] = {};
  ASSERT_TRUE((*part)->read_quantised(name, {0, 2}, got, scales).ok());
  EXPECT_EQ(std::string(got, got + 4), int8_values);
  EXPECT_EQ(scales[0], 0.5f);
  EXPECT_EQ(scales[1], 2.0f);
  float values[2] = {};
  ASSERT_TRUE((*part)->read_part(name, {2, 2}, values).ok());
  EXPECT_EQ(values[0], 6.0f);
  EXPECT_EQ(values[1], 8.0f);
}

// Packed for the same type, int8 values and scales are not decoded and quantised again: 3 does not become 127.
TEST_F(PartTest, PackingForTheSameTypeKeepsTheInt8Values) {
  const std::string name = "blocks.0.self_attn.q";
  std::string header = R"({"blocks.0.self_attn.q.weight":{"dtype":"I8","shape":[2,2],"data_offsets":[0,4]},)"
                       R"("blocks.0.self_attn.q.weight_scale":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},)"
                       R"("blocks.0.self_attn.q.bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})";
  auto backend = *make_backend("cpu", {.threads = 1});
  for (bool with_low : {false, true}) {  // -128 is beyond the range of the kernels: those rows are quantised again
    std::string int8_values = {1, 3, static_cast<char>(with_low ? -128 : -5), 4};
    auto part =
        *open_part(write_safetensors("x.safetensors", header, int8_values + floats({0.5f, 0, 0})), Part::kVideoModel);
    Budget budget;
    WeightLoader loader(*part, *backend, budget, MemoryCategory::kWeights, {DType::kF32, DType::kI8});
    LinearWeight w = loader.linear(name, 2, 2, DType::kI8);
    ASSERT_TRUE(loader.status().ok()) << loader.status().message();
    std::vector<char> want(backend->packed_linear_bytes(2, 2, DType::kI8));
    std::vector<float> scales{0.5f, 0.5f}, values{0.5f, 1.5f, -64.0f, 2.0f};
    if (with_low) {
      backend->pack_linear(Tensor(values.data(), {2, 2}, DType::kF32), DType::kI8, want.data());
    } else {
      backend->pack_prequantised(Tensor(int8_values.data(), {2, 2}, DType::kI8), scales, want.data());
    }
    EXPECT_EQ(std::memcmp(want.data(), w.data, want.size()), 0) << with_low;
  }
}

// An adapter over int8 weights that stay int8: rows that it edits are quantised again, the others are unchanged.
TEST_F(PartTest, MergesAnAdapterIntoQuantisedWeights) {
  std::string header = R"({"blocks.0.self_attn.q.weight":{"dtype":"I8","shape":[2,2],"data_offsets":[0,4]},)"
                       R"("blocks.0.self_attn.q.weight_scale":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},)"
                       R"("blocks.0.self_attn.q.bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},)"
                       R"("blocks.0.self_attn.k.weight":{"dtype":"I8","shape":[2,2],"data_offsets":[16,20]},)"
                       R"("blocks.0.self_attn.k.weight_scale":{"dtype":"F32","shape":[1],"data_offsets":[20,24]},)"
                       R"("blocks.0.self_attn.k.bias":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}})";
  std::string one = std::string("\1\3\5\4", 4) + floats({0.5f, 0, 0});
  auto base = *open_part(write_safetensors("base.safetensors", header, one + one), Part::kVideoModel);
  std::string pair = R"({"diffusion_model.blocks.0.self_attn.q.lora_A.weight":{"dtype":"F32","shape":[1,2],)"
                     R"("data_offsets":[0,8]},"diffusion_model.blocks.0.self_attn.q.lora_B.weight":)"
                     R"({"dtype":"F32","shape":[2,1],"data_offsets":[8,16]}})";
  auto adapter = *open_lora(write_safetensors("adapter.safetensors", pair, floats({1, 0, 2, 0})));
  TensorSourcePtr merged = merge_lora(base, std::move(adapter))->source;
  auto backend = *make_backend("cpu", {.threads = 1});
  Budget budget;
  WeightLoader loader(*merged, *backend, budget, MemoryCategory::kWeights, {DType::kF32, DType::kI8});
  LinearWeight q = loader.linear("blocks.0.self_attn.q", 2, 2, DType::kI8),
               k = loader.linear("blocks.0.self_attn.k", 2, 2, DType::kI8);
  ASSERT_TRUE(loader.status().ok()) << loader.status().message();
  std::vector<char> want(backend->packed_linear_bytes(2, 2, DType::kI8));
  std::vector<float> values{2.5f, 1.5f, 2.5f, 2.0f}, scales{0.5f, 0.5f};
  backend->pack_linear(Tensor(values.data(), {2, 2}, DType::kF32), DType::kI8, want.data());
  EXPECT_EQ(std::memcmp(want.data(), q.data, want.size()), 0);
  uint8_t int8_values[4] = {1, 3, 5, 4};
  backend->pack_prequantised(Tensor(int8_values, {2, 2}, DType::kI8), scales, want.data());
  EXPECT_EQ(std::memcmp(want.data(), k.data, want.size()), 0);
}

TEST_F(PartTest, NamesAFileOfAnotherPart) {
  std::string header = R"({"decoder.middle.0.residual.0.gamma":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  std::string path = write_safetensors("vae.safetensors", header, floats({1}));
  EXPECT_TRUE(open_part(path, Part::kVae).ok());
  for (Part part : {Part::kVideoModel, Part::kTextEncoder, Part::kAudioEncoder}) {
    std::string message = open_part(path, part).status().message();
    EXPECT_NE(message.find(std::string("holds no ") + part_name(part)), std::string::npos) << message;
  }
}

// Layer names without the prefix that the tensors have.
TEST_F(PartTest, MatchesLayerSettingsByNameSuffix) {
  auto message = [&](const std::string& layer) {
    const std::string settings = R"({\"layers\":{\")" + layer + R"(\":{\"format\":\"float8_e4m3fn\"}}})";
    std::string header = R"({"__metadata__":{"_quantization_metadata":")" + settings + R"("},)";
    int at = 0;
    for (const char* name :
         {"net.blocks.0.q.weight", "net.blocks.0.q.weight_scale", "net.blocks.1.q.weight", "net.blocks.0.xq.weight"}) {
      const bool scale = std::string(name).ends_with("scale");
      header += std::string("\"") + name + R"(":{"dtype":")" + (scale ? "F32" : "F8_E4M3") +
                R"(","shape":[1,1],"data_offsets":[)" + std::to_string(at) + ",";
      at += scale ? 4 : 1;
      header += std::to_string(at) + "]},";
    }
    header.back() = '}';
    auto file = open_tensors(write_safetensors("x.safetensors", header, std::string(static_cast<size_t>(at), '\0')));
    EXPECT_TRUE(file.ok()) << file.status().message();
    return read_layer_formats(**file).status().message();
  };
  EXPECT_EQ(message("blocks.0.q"), "");
  EXPECT_EQ(message("net.blocks.0.q"), "");
  EXPECT_NE(message("q").find("which may be net.blocks.0.q.weight or net.blocks.1.q.weight"), std::string::npos);
  EXPECT_NE(message("locks.0.q").find("which is not in the file"), std::string::npos);
}

// As many settings as tensors: looked up, not searched for, so that four times as many take four times as long. In CPU
// time, which other programs do not change.
TEST_F(PartTest, TheTimeOfLayerSettingsGrowsWithTheirNumber) {
  auto cpu_seconds = [&](int layers) {
    std::string settings, header;
    for (int i = 0; i < layers; ++i) {
      const std::string layer = "blocks." + std::to_string(i) + ".q";
      settings += (i == 0 ? "" : ",") + ("\\\"" + layer) + R"(\":{\"format\":\"float8_e4m3fn\"})";
      header += R"(,"net.)" + layer + R"(.weight":{"dtype":"F8_E4M3","shape":[1,1],"data_offsets":[)" +
                std::to_string(i) + "," + std::to_string(i + 1) + "]}";
      header += R"(,"net.)" + layer + R"(.scaled_fp8":{"dtype":"F8_E4M3","shape":[0],"data_offsets":[0,0]})";
    }
    header = R"({"__metadata__":{"_quantization_metadata":"{\"layers\":{)" + settings + R"(}}"})" + header + "}";
    auto file = open_tensors(write_safetensors("x.safetensors", header, std::string(size_t(layers), '\0')));
    EXPECT_TRUE(file.ok()) << file.status().message();
    const std::clock_t begin = std::clock();
    EXPECT_NE(read_layer_formats(**file).status().message().find("has no weight_scale"), std::string::npos);
    return double(std::clock() - begin) / CLOCKS_PER_SEC;
  };
  const double few = cpu_seconds(4000), many = cpu_seconds(16'000);
  EXPECT_LT(many, 10 * few);
}

// Companions of other packers: bitsandbytes' state below the weight, GPTQ's integers, DeepSeek's block scales.
TEST_F(PartTest, NamesCompanionTensorsOfOtherFormats) {
  const char* companions[] = {"weight.absmax", "weight.quant_state.bitsandbytes__nf4", "weight_scale_inv", "qzeros",
                              "weight_global_scale"};
  for (const char* companion : companions) {
    std::string name = std::string("blocks.0.self_attn.q.") + companion;
    std::string header = R"({"blocks.0.self_attn.q.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},")" +
                         name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})";
    auto part = open_part(write_safetensors("x.safetensors", header, floats({1, 1})), Part::kVideoModel);
    ASSERT_FALSE(part.ok()) << companion;
    EXPECT_NE(part.status().message().find(name), std::string::npos) << part.status().message();
  }
}

}  // namespace
}  // namespace liveavatar
