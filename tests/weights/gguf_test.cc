// GGUF files made here, block by block from quants and scales, against what the reader makes of them; and files that
// lie.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "support/gguf_writer.h"
#include "support/temp_dir.h"
#include "weights/tensor_source.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

std::string half(float x) { return GgufWriter::bytes(to_f16(x)); }

// A block and the values it stands for.
struct Block {
  std::string bytes;
  std::vector<float> values;
};

class GgufTest : public ::testing::Test {
 protected:
  std::string write(const std::string& bytes, const std::string& name = "x.gguf") const {
    std::ofstream(dir_ / name, std::ios::binary) << bytes;
    return dir_.file(name);
  }
  std::string error_of(const std::string& bytes) const {
    auto source = open_gguf(write(bytes));
    EXPECT_FALSE(source.ok());
    std::string message = source.status().message();
    EXPECT_NE(message.find("x.gguf"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }

  int quant(int bits) { return static_cast<int>(random_() % (1u << bits)); }
  // A scale that a half holds exactly, so that expected values are exact too.
  float scale() { return to_f32(to_f16((static_cast<float>(random_() % 2000) - 1000.0f) / 3000.0f)); }

  // 32 values of 4 or 5 bits; with a minimum, or around zero.
  Block block32(int bits, bool with_minimum) {
    Block block;
    float d = scale(), m = with_minimum ? scale() : -d * float(1 << (bits - 1));
    std::vector<int> quants(32);
    uint32_t fifth = 0;
    for (size_t i = 0; i < 32; ++i) {
      quants[i] = quant(bits);
      fifth |= static_cast<uint32_t>(quants[i] >> 4) << i;
      block.values.push_back(d * float(quants[i]) + m);
    }
    block.bytes = half(d);
    if (with_minimum) block.bytes += half(m);
    if (bits == 5) block.bytes += GgufWriter::bytes(fifth);
    for (size_t j = 0; j < 16; ++j) block.bytes += static_cast<char>((quants[j] & 15) | (quants[j + 16] & 15) << 4);
    return block;
  }
  Block q8_0() {
    Block block;
    float d = scale();
    block.bytes = half(d);
    for (int i = 0; i < 32; ++i) {
      int8_t c = static_cast<int8_t>(quant(8));
      block.bytes += static_cast<char>(c);
      block.values.push_back(d * float(c));
    }
    return block;
  }
  // Eight six-bit scales and minimums in twelve bytes.
  static std::string six_bits(const int (&scales)[8], const int (&minimums)[8]) {
    std::string packed(12, '\0');
    for (size_t j = 0; j < 8; ++j) {
      if (j < 4) {
        packed[j] = static_cast<char>(packed[j] | scales[j]);
        packed[j + 4] = static_cast<char>(packed[j + 4] | minimums[j]);
      } else {
        packed[j + 4] = static_cast<char>((scales[j] & 15) | (minimums[j] & 15) << 4);
        packed[j - 4] = static_cast<char>(packed[j - 4] | scales[j] >> 4 << 6);
        packed[j] = static_cast<char>(packed[j] | minimums[j] >> 4 << 6);
      }
    }
    return packed;
  }
  Block k45(int bits) {
    Block block;
    float d = scale(), d_min = scale();
    int scales[8], minimums[8], quants[256];
    for (int& s : scales) s = quant(6);
    for (int& m : minimums) m = quant(6);
    for (size_t i = 0; i < 256; ++i) {
      quants[i] = quant(bits);
      block.values.push_back(d * float(scales[i / 32]) * float(quants[i]) - d_min * float(minimums[i / 32]));
    }
    block.bytes = half(d) + half(d_min) + six_bits(scales, minimums);
    std::string fifth(32, '\0'), low;
    for (size_t group = 0; group < 256; group += 64) {
      for (size_t l = 0; l < 32; ++l) {
        low += static_cast<char>((quants[group + l] & 15) | (quants[group + l + 32] & 15) << 4);
        int two = quants[group + l] >> 4 | quants[group + l + 32] >> 4 << 1;
        fifth[l] = static_cast<char>(fifth[l] | two << (group / 32));
      }
    }
    if (bits == 5) block.bytes += fifth;
    block.bytes += low;
    return block;
  }
  Block q6_k() {
    Block block;
    float d = scale();
    int8_t scales[16];
    int quants[256];
    for (int8_t& s : scales) s = static_cast<int8_t>(quant(8));
    for (size_t i = 0; i < 256; ++i) {
      quants[i] = quant(6);
      block.values.push_back(d * float(scales[i / 16]) * float(quants[i] - 32));
    }
    std::string low, upper;
    for (const int* h : {quants, quants + 128}) {
      for (size_t l = 0; l < 64; ++l) low += static_cast<char>((h[l] & 15) | (h[l + 64] & 15) << 4);
      for (size_t l = 0; l < 32; ++l)
        upper += static_cast<char>(h[l] >> 4 | h[l + 32] >> 4 << 2 | h[l + 64] >> 4 << 4 | h[l + 96] >> 4 << 6);
    }
    block.bytes = low + upper + std::string(reinterpret_cast<char*>(scales), 16) + half(d);
    return block;
  }

  struct Kind {
    uint32_t id;
    const char* name;
    std::function<Block()> make;
  };
  std::vector<Kind> kinds() {
    return {{2, "Q4_0", [this] { return block32(4, false); }},
            {3, "Q4_1", [this] { return block32(4, true); }},
            {6, "Q5_0", [this] { return block32(5, false); }},
            {7, "Q5_1", [this] { return block32(5, true); }},
            {8, "Q8_0", [this] { return q8_0(); }},
            {12, "Q4_K", [this] { return k45(4); }},
            {13, "Q5_K", [this] { return k45(5); }},
            {14, "Q6_K", [this] { return q6_k(); }}};
  }

  TempDir dir_;
  std::mt19937 random_{11};
};

// Several rows of blocks; the whole tensor, and every part of it that begins and ends anywhere.
TEST_F(GgufTest, DecodesEveryBlockType) {
  for (const Kind& kind : kinds()) {
    std::string bytes;
    std::vector<float> want;
    constexpr size_t kBlocks = 300;  // more than is read at a time
    for (size_t i = 0; i < kBlocks; ++i) {
      Block block = kind.make();
      bytes += block.bytes;
      want.insert(want.end(), block.values.begin(), block.values.end());
    }
    GgufWriter writer;
    writer.tensor("first", {3}, 0, std::string(12, '\0'));
    writer.tensor("blocks.0.w", {100, want.size() / 100}, kind.id, bytes);
    auto source = open_gguf(write(writer.file()));
    ASSERT_TRUE(source.ok()) << source.status().message();
    const TensorInfo& info = (*source)->tensors().at("blocks.0.w");
    EXPECT_EQ(info.shape, Shape({100, static_cast<int64_t>(want.size()) / 100}));
    EXPECT_EQ(info.dtype, DType::kF32);
    EXPECT_STREQ(info.stored, kind.name);
    EXPECT_EQ(info.stored_bytes, static_cast<int64_t>(bytes.size()));
    auto expect_part = [&](int64_t first, int64_t count) {
      std::vector<float> got(static_cast<size_t>(count) + 1, 77.0f);
      ASSERT_TRUE((*source)->read_part("blocks.0.w", {first, count}, got.data()).ok());
      EXPECT_EQ(got.back(), 77.0f);
      for (int64_t i = 0; i < count; ++i) {
        float wanted = want[static_cast<size_t>(first + i)];
        ASSERT_NEAR(got[static_cast<size_t>(i)], wanted, 1e-6f * (1 + std::fabs(wanted))) << kind.name << " " << i;
      }
    };
    int64_t all = static_cast<int64_t>(want.size());
    expect_part(0, all);
    for (int64_t first : {0, 1, 31, 32, 255, 300}) {
      for (int64_t count : {1, 32, 257, 1000}) expect_part(first, count);
    }
    expect_part(all - 5, 5);
  }
}

TEST_F(GgufTest, ReadsPlainTypesAndShapes) {
  GgufWriter writer;
  writer.alignment = 64;
  writer.number("general.alignment", 64);
  writer.numbers("comfy.gguf.orig_shape.folded", {2, 3, 2});
  writer.numbers("some.list", {1, 2, 3});
  writer.pair("some.texts", 9,
              GgufWriter::bytes(uint32_t{8}) + GgufWriter::bytes(uint64_t{2}) + GgufWriter::string("a") +
                  GgufWriter::string("bc"));
  writer.pair("some.flag", 7, std::string(1, '\1'));
  writer.tensor("patch", {2, 1, 1, 1, 2}, 1, half(1) + half(-2) + half(0.5f) + half(4));
  std::string twelve;
  for (int i = 0; i < 12; ++i) twelve += GgufWriter::bytes(to_bf16(float(i)));
  writer.tensor("folded", {1, 12}, 30, twelve);
  auto source = open_gguf(write(writer.file()));
  ASSERT_TRUE(source.ok()) << source.status().message();
  EXPECT_EQ((*source)->tensors().at("patch").shape, Shape({2, 1, 1, 1, 2}));
  EXPECT_EQ((*source)->tensors().at("folded").shape, Shape({2, 3, 2}));
  f16 patch[4];
  ASSERT_TRUE((*source)->read("patch", patch).ok());
  EXPECT_EQ(to_f32(patch[1]), -2);
  bf16 part[3];
  ASSERT_TRUE((*source)->read_part("folded", {9, 3}, part).ok());
  EXPECT_EQ(to_f32(part[2]), 11);
}

TEST_F(GgufTest, NamesEveryContradictionInAHeader) {
  auto good = [](GgufWriter writer) {
    writer.tensor("a", {2, 4}, 0, std::string(32, '\0'));
    return writer;
  };
  std::string file = good(GgufWriter()).file();
  ASSERT_TRUE(open_gguf(write(file)).ok());
  EXPECT_NE(error_of("<html>no model, but long enough</html>").find("a web page"), std::string::npos);
  EXPECT_NE(error_of("").find("the file is empty"), std::string::npos);
  for (size_t cut = 4; cut < file.size(); cut += 3) error_of(file.substr(0, cut));
  EXPECT_NE(error_of(file.substr(0, file.size() - 1)).find("truncated"), std::string::npos);
  EXPECT_NE(error_of(good(GgufWriter("llama")).file()).find("\"llama\", wanted \"wan\""), std::string::npos);
  struct {
    std::function<void(GgufWriter&)> spoil;
    const char* says;
  } cases[] = {
      {[](GgufWriter& w) { w.version = 1; }, "GGUF version 1, this build reads 2 and 3"},
      {[](GgufWriter& w) { w.version = 0x03000000; }, "GGUF version"},  // big-endian
      {[](GgufWriter& w) {
         w.tensor("q", {1, 256}, 16, std::string(66, '\0'));
       },
       "type IQ2_XXS, which this build"},
      {[](GgufWriter& w) {
         w.tensor("q", {2, 33}, 8, std::string(68, '\0'));
       },
       "do not fill blocks of 32 (Q8_0)"},
      {[](GgufWriter& w) { w.tensor_at("q", {4}, 0, 1 << 20); }, "tensor q lies beyond the end"},
      {[](GgufWriter& w) { w.tensor_at("q", {4}, 0, ~uint64_t{31}); }, "tensor q lies beyond the end"},
      {[](GgufWriter& w) { w.tensor_at("q", {4}, 0, 4); }, "begins at 4, which is no multiple of 32"},
      {[](GgufWriter& w) { w.tensor_at("q", {1}, 0, 0); }, "overlap"},
      {[](GgufWriter& w) { w.tensor("a", {1}, 0, "1234"); }, "names tensor a twice"},
      {[](GgufWriter& w) {
         w.tensor("q", {1u << 31, 1u << 31, 1u << 31}, 0, "");
       },
       "absurd shape"},
      {[](GgufWriter& w) {
         w.tensor("q", {1, 1, 1, 1, 1, 1, 1}, 0, "1234");
       },
       "7 dimensions"},
      {[](GgufWriter& w) {
         w.numbers("comfy.gguf.orig_shape.a", {3, 4});
       },
       "does not match its size"},
      {[](GgufWriter& w) {
         w.numbers("comfy.gguf.orig_shape.a", {-2, -4});
       },
       "absurd shape"},
      {[](GgufWriter& w) { w.number("general.alignment", 24); }, "no power of two"},
      {[](GgufWriter& w) { w.pair("odd", 99, "1234"); }, "unknown type 99"},
      {[](GgufWriter& w) { w.pair("long", 8, GgufWriter::bytes(~uint64_t{0})); }, "text of"},
      {[](GgufWriter& w) { w.pair("many", 9, GgufWriter::bytes(uint32_t{10}) + GgufWriter::bytes(~uint64_t{0})); },
       "truncated"},
  };
  for (const auto& c : cases) {
    GgufWriter writer;
    // Pairs that a tensor refers to stand before it.
    if (std::string(c.says).find("tensor") == std::string::npos) {
      c.spoil(writer);
      writer.tensor("a", {2, 4}, 0, std::string(32, '\0'));
    } else {
      writer = good(writer);
      c.spoil(writer);
    }
    std::string message = error_of(writer.file());
    EXPECT_NE(message.find(c.says), std::string::npos) << message << "; wanted " << c.says;
  }
}

// Files with random damage are read or refused, never more than that. (The sanitizer build watches.)
TEST_F(GgufTest, DamagedFilesNeverCrash) {
  GgufWriter writer;
  writer.numbers("comfy.gguf.orig_shape.bQ4_0", {16, 16});
  for (const Kind& kind : kinds())
    writer.tensor(std::string("b").append(kind.name), {1, 256}, kind.id, [&] {
      std::string bytes;
      for (size_t n = 0; n < 256;) {
        Block block = kind.make();
        bytes += block.bytes;
        n += block.values.size();
      }
      return bytes;
    }());
  std::string file = writer.file();
  size_t header = 600;  // damage where it counts
  int opened = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string bytes = file;
    for (int i = 0; i < 1 + round % 3; ++i)
      bytes[random_() % std::min(header, bytes.size())] = static_cast<char>(random_());
    if (round % 5 == 0) bytes.resize(random_() % bytes.size());
    auto source = open_gguf(write(bytes));
    if (!source.ok()) continue;
    ++opened;
    for (const auto& [name, info] : (*source)->tensors()) {
      if (info.shape.elements() > (1 << 20)) continue;
      std::vector<char> data(static_cast<size_t>(info.shape.elements()) * dtype_bytes(info.dtype));
      EXPECT_TRUE((*source)->read(name, data.data()).ok());  // opening has checked where it lies
    }
  }
  EXPECT_GT(opened, 0);
  EXPECT_LT(opened, 1500);
}

}  // namespace
}  // namespace liveavatar
