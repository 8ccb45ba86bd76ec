// Blocks packed here from scales and quants, as llama.cpp packs them, against what the decoders make of them.
#include "weights/gguf_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace liveavatar {
namespace {

using Bytes = std::vector<uint8_t>;

class GgufBlocksTest : public ::testing::Test {
 protected:
  int quant(int count) { return static_cast<int>(random_() % static_cast<unsigned>(count)); }
  std::vector<int> quants(size_t number, int count) {
    std::vector<int> all(number);
    for (int& c : all) c = quant(count);
    return all;
  }
  // A scale that a half holds exactly, and its bytes.
  float scale(Bytes& bytes) {
    const f16 half = to_f16((static_cast<float>(quant(2000)) - 1000) / 3000);
    bytes.push_back(static_cast<uint8_t>(half.bits));
    bytes.push_back(static_cast<uint8_t>(half.bits >> 8));
    return to_f32(half);
  }
  static Bytes joined(std::initializer_list<Bytes> parts) {
    Bytes all;
    for (const Bytes& p : parts) all.insert(all.end(), p.begin(), p.end());
    return all;
  }
  // Two bits of 256 quants: each 128 lie in 32 bytes, 32 apart in one byte.
  static Bytes two_bits(const std::vector<int>& quants) {
    Bytes packed;
    for (size_t h = 0; h < 256; h += 128) {
      for (size_t i = h; i < h + 32; ++i) {
        packed.push_back(static_cast<uint8_t>((quants[i] & 3) | (quants[i + 32] & 3) << 2 | (quants[i + 64] & 3) << 4 |
                                              (quants[i + 96] & 3) << 6));
      }
    }
    return packed;
  }
  // Quants of four bits; the two of a byte are `half` apart.
  static Bytes nibbles(const std::vector<int>& quants, size_t half) {
    Bytes packed;
    for (size_t g = 0; g < quants.size(); g += 2 * half) {
      for (size_t i = g; i < g + half; ++i) packed.push_back(static_cast<uint8_t>(quants[i] | quants[i + half] << 4));
    }
    return packed;
  }
  static void expect_block(uint32_t id, const char* name, const Bytes& block, const std::vector<float>& want) {
    const GgufType* type = gguf_type(id);
    ASSERT_NE(type, nullptr) << name;
    EXPECT_STREQ(type->name, name);
    EXPECT_EQ(type->block_bytes, block.size()) << name;
    ASSERT_EQ(type->block_values, static_cast<int64_t>(want.size())) << name;
    std::vector<float> got(want.size() + 1, 77);
    type->decode(block.data(), got.data());
    EXPECT_EQ(got.back(), 77);
    got.pop_back();
    EXPECT_EQ(got, want) << name;
  }

  std::mt19937 random_{3};
};

TEST_F(GgufBlocksTest, DecodesQ2K) {
  for (int round = 0; round < 20; ++round) {
    Bytes tail;
    const float d = scale(tail), d_min = scale(tail);
    const std::vector<int> s = quants(16, 16), m = quants(16, 16), q = quants(256, 4);
    Bytes head;
    for (size_t i = 0; i < 16; ++i) head.push_back(static_cast<uint8_t>(s[i] | m[i] << 4));
    std::vector<float> want;
    for (size_t i = 0; i < 256; ++i) {
      const float minimum = d_min * float(m[i / 16]), step = d * float(s[i / 16]);
      want.push_back(step * float(q[i]) - minimum);
    }
    expect_block(10, "Q2_K", joined({head, two_bits(q), tail}), want);
  }
}

TEST_F(GgufBlocksTest, DecodesQ3K) {
  for (int round = 0; round < 20; ++round) {
    Bytes tail, thirds(32), scales(12);
    const float d = scale(tail);
    const std::vector<int> s = quants(16, 64), q = quants(256, 8);
    std::vector<float> want;
    for (size_t i = 0; i < 256; ++i) {
      thirds[i % 32] = static_cast<uint8_t>(thirds[i % 32] | (q[i] >> 2) << (i / 32));
      want.push_back(d * float(s[i / 16] - 32) * float(q[i] - 4));
    }
    for (size_t j = 0; j < 16; ++j) {
      scales[j % 8] = static_cast<uint8_t>(scales[j % 8] | (s[j] & 15) << (j / 8 * 4));
      scales[8 + j % 4] = static_cast<uint8_t>(scales[8 + j % 4] | s[j] >> 4 << (j / 4 * 2));
    }
    expect_block(11, "Q3_K", joined({thirds, two_bits(q), scales, tail}), want);
  }
}

constexpr float kUneven[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

TEST_F(GgufBlocksTest, DecodesIq4) {
  for (int round = 0; round < 20; ++round) {
    Bytes head;
    const float d = scale(head);
    const std::vector<int> q = quants(32, 16), many = quants(256, 16), s = quants(8, 64);
    std::vector<float> want;
    for (int c : q) want.push_back(d * kUneven[c]);
    expect_block(20, "IQ4_NL", joined({head, nibbles(q, 16)}), want);
    want.clear();
    Bytes lower(4);
    int upper = 0;
    for (size_t p = 0; p < 8; ++p) {
      lower[p / 2] = static_cast<uint8_t>(lower[p / 2] | (s[p] & 15) << (p % 2 * 4));
      upper |= s[p] >> 4 << (2 * p);
    }
    for (size_t i = 0; i < 256; ++i) want.push_back(d * float(s[i / 32] - 32) * kUneven[many[i]]);
    const Bytes word = {static_cast<uint8_t>(upper), static_cast<uint8_t>(upper >> 8)};
    expect_block(23, "IQ4_XS", joined({head, word, lower, nibbles(many, 16)}), want);
  }
}

constexpr float kE2M1[] = {0, .5f, 1, 1.5f, 2, 3, 4, 6, 0, -.5f, -1, -1.5f, -2, -3, -4, -6};

TEST_F(GgufBlocksTest, DecodesMxfp4WithAnExponentForEvery32) {
  for (int e : {0, 1, 2, 100, 127, 128, 253, 254}) {
    const std::vector<int> q = quants(32, 16);
    std::vector<float> want;
    for (int c : q) want.push_back(static_cast<float>(std::pow(2.0, e - 127) * double(kE2M1[c])));
    expect_block(39, "MXFP4", joined({{static_cast<uint8_t>(e)}, nibbles(q, 16)}), want);
  }
  const Bytes broken(17, 255);
  float values[32];
  gguf_type(39)->decode(broken.data(), values);
  EXPECT_TRUE(std::isnan(values[0]));
}

// Against e4m3 with its sign taken off, of which 127 is 0 here.
TEST_F(GgufBlocksTest, DecodesNvfp4WithFourScales) {
  for (int bits = 0; bits < 128; bits += 4) {
    const std::vector<int> q = quants(64, 16);
    Bytes block;
    std::vector<float> want;
    for (int part = 0; part < 4; ++part) block.push_back(static_cast<uint8_t>(bits + part));
    for (size_t i = 0; i < 64; ++i) {
      const uint8_t s = block[i / 16];
      want.push_back(s == 127 ? 0 : to_f32(f8e4m3{s}) * kE2M1[q[i]]);
    }
    expect_block(40, "NVFP4", joined({block, nibbles(q, 8)}), want);
  }
}

TEST_F(GgufBlocksTest, DecodesTernaryBlocks) {
  for (int round = 0; round < 20; ++round) {
    Bytes tail;
    const float d = scale(tail);
    const std::vector<int> q = quants(256, 3);
    std::vector<float> want;
    for (int c : q) want.push_back(d * float(c - 1));
    expect_block(35, "TQ2_0", joined({two_bits(q), tail}), want);
    // Digits of base 3, the first the highest, as a fraction of 243 in 256ths, rounded up.
    Bytes packed;
    auto pack = [&](size_t begin, size_t bytes, size_t digits) {
      for (size_t i = 0; i < bytes; ++i) {
        int number = 0;
        for (size_t n = 0; n < 5; ++n) number = number * 3 + (n < digits ? q[begin + n * bytes + i] : 0);
        packed.push_back(static_cast<uint8_t>((number * 256 + 242) / 243));
      }
    };
    pack(0, 32, 5);
    pack(160, 16, 5);
    pack(240, 4, 4);
    expect_block(34, "TQ1_0", joined({packed, tail}), want);
  }
}

TEST_F(GgufBlocksTest, NamesEveryBlockType) {
  EXPECT_EQ(gguf_type_name(12), "Q4_K");
  EXPECT_EQ(gguf_type_name(16), "IQ2_XXS");
  EXPECT_EQ(gguf_type_name(250), "250");
  for (uint32_t id = 0; id < 300; ++id) {
    if (const GgufType* type = gguf_type(id); type != nullptr) {
      EXPECT_LE(type->block_values, kLargestGgufBlock);
      EXPECT_NE(std::string(kGgufTypes).find(type->name), std::string::npos) << type->name;
    }
  }
}

}  // namespace
}  // namespace liveavatar
