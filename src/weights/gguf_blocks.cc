#include "weights/gguf_blocks.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace liveavatar {
namespace {

float half_at(const uint8_t* p) {
  f16 h;
  std::memcpy(&h, p, sizeof(h));
  return to_f32(h);
}

int low(uint8_t byte) { return byte & 15; }
int high(uint8_t byte) { return byte >> 4; }

// Blocks of 32. Byte j of the quants holds value j in its low and value j + 16 in its high nibble; a fifth bit of value
// i is bit i of a word. value = scale * quant + minimum.
struct Block32 {
  float scale = 0, minimum = 0;
  const uint8_t* quants = nullptr;
  uint32_t fifth_bits = 0;

  void write(float* values) const {
    for (int i = 0; i < 32; ++i) {
      int quant = i < 16 ? low(quants[i]) : high(quants[i - 16]);
      values[i] = scale * static_cast<float>(quant | static_cast<int>((fifth_bits >> i & 1) << 4)) + minimum;
    }
  }
};

uint32_t word_at(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}

void decode_q4_0(const uint8_t* b, float* values) { Block32{half_at(b), -8 * half_at(b), b + 2}.write(values); }
void decode_q4_1(const uint8_t* b, float* values) { Block32{half_at(b), half_at(b + 2), b + 4}.write(values); }
void decode_q5_0(const uint8_t* b, float* values) {
  Block32{half_at(b), -16 * half_at(b), b + 6, word_at(b + 2)}.write(values);
}
void decode_q5_1(const uint8_t* b, float* values) {
  Block32{half_at(b), half_at(b + 2), b + 8, word_at(b + 4)}.write(values);
}
void decode_q8_0(const uint8_t* b, float* values) {
  for (int i = 0; i < 32; ++i) values[i] = half_at(b) * static_cast<float>(static_cast<int8_t>(b[2 + i]));
}

// Super-blocks of 256, eight parts of 32: value = d * scale * quant - d_min * minimum, scale and minimum of a part in
// six bits. Parts 0..3 have both in a byte's low six bits; parts 4..7 four bits in bytes 8..11 and the two upper ones
// on top of the first eight bytes.
struct SuperBlock {
  float d, d_min;
  const uint8_t* packed;  // 12 bytes

  explicit SuperBlock(const uint8_t* b) : d(half_at(b)), d_min(half_at(b + 2)), packed(b + 4) {}
  float scale(int part) const {
    int six = part < 4 ? packed[part] & 63 : low(packed[part + 4]) | (packed[part - 4] >> 6 << 4);
    return d * static_cast<float>(six);
  }
  float minimum(int part) const {
    int six = part < 4 ? packed[part + 4] & 63 : high(packed[part + 4]) | (packed[part] >> 6 << 4);
    return d_min * static_cast<float>(six);
  }
};

// 32 bytes of quants serve two parts, the low nibbles the even one; bit `part` of byte i of fifth_bits (or null) is the
// fifth bit of value i of the part.
void decode_k45(const SuperBlock& block, const uint8_t* fifth_bits, const uint8_t* quants, float* values) {
  for (int part = 0; part < 8; ++part) {
    float scale = block.scale(part), minimum = block.minimum(part);
    for (int i = 0; i < 32; ++i) {
      uint8_t byte = quants[part / 2 * 32 + i];
      int quant = part % 2 == 0 ? low(byte) : high(byte);
      if (fifth_bits != nullptr) quant |= (fifth_bits[i] >> part & 1) << 4;
      *values++ = scale * static_cast<float>(quant) - minimum;
    }
  }
}

void decode_q4_k(const uint8_t* b, float* values) { decode_k45(SuperBlock(b), nullptr, b + 16, values); }
void decode_q5_k(const uint8_t* b, float* values) { decode_k45(SuperBlock(b), b + 16, b + 48, values); }

// Two halves of 128, four rows of 32 each: the low four bits of rows 0, 1 in the low and of rows 2, 3 in the high
// nibbles of 64 bytes, two upper bits a row in 32 bytes; a scale for 16 values; d behind all.
void decode_q6_k(const uint8_t* b, float* values) {
  const uint8_t* scales = b + 192;
  float d = half_at(b + 208);
  for (int at = 0; at < 256; ++at) {
    int half = at / 128, row = at % 128 / 32, i = at % 32;
    uint8_t byte = b[half * 64 + row % 2 * 32 + i];
    int upper = b[128 + half * 32 + i] >> (2 * row) & 3, quant = (row < 2 ? low(byte) : high(byte)) | upper << 4;
    values[at] = d * static_cast<float>(static_cast<int8_t>(scales[at / 16])) * static_cast<float>(quant - 32);
  }
}

// Two bits a value: two halves of 128, four rows of 32 each; row r of a half is bits 2 r, 2 r + 1 of 32 bytes.
int two_bits(const uint8_t* quants, int at) { return quants[at / 128 * 32 + at % 32] >> (at % 128 / 32 * 2) & 3; }

// A scale and a minimum of four bits for 16 values, then the quants, then d and d_min.
void decode_q2_k(const uint8_t* b, float* values) {
  float d = half_at(b + 80), d_min = half_at(b + 82);
  for (int at = 0; at < 256; ++at) {
    float scale = d * static_cast<float>(low(b[at / 16])), minimum = d_min * static_cast<float>(high(b[at / 16]));
    values[at] = scale * static_cast<float>(two_bits(b + 16, at)) - minimum;
  }
}

// The third bits (row r is bit r of 32 bytes; 0 takes 4 away), the lower two, twelve bytes of six-bit scales for 16
// values each, d. The low four bits of scales 0..7 and 8..15 are the nibbles of the first eight bytes; the upper two of
// scale j are bits 2 (j / 4) and the next of byte 8 + j % 4.
void decode_q3_k(const uint8_t* b, float* values) {
  const uint8_t* packed = b + 96;
  float d = half_at(b + 108);
  for (int at = 0; at < 256; ++at) {
    int j = at / 16, lower = j < 8 ? low(packed[j]) : high(packed[j - 8]);
    int six = lower | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
    int third = b[at % 32] >> (at / 32) & 1;
    values[at] = d * static_cast<float>(six - 32) * static_cast<float>(two_bits(b + 32, at) - (third ? 0 : 4));
  }
}

// Quants that stand for the values of a table: `half` in the low nibbles of as many bytes, then `half` in the high
// ones.
void write_from_table(const int8_t* table, float scale, const uint8_t* quants, int half, float* values) {
  for (int i = 0; i < half; ++i) {
    values[i] = scale * static_cast<float>(table[low(quants[i])]);
    values[i + half] = scale * static_cast<float>(table[high(quants[i])]);
  }
}

constexpr int8_t kUneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kE2M1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void decode_iq4_nl(const uint8_t* b, float* values) { write_from_table(kUneven, half_at(b), b + 2, 16, values); }

// d, then for the eight parts of 32 the upper two bits of their scales in a word, the lower four in four bytes.
void decode_iq4_xs(const uint8_t* b, float* values) {
  float d = half_at(b);
  int upper = b[2] | b[3] << 8;
  for (int part = 0; part < 8; ++part) {
    int lower = part % 2 == 0 ? low(b[4 + part / 2]) : high(b[4 + part / 2]);
    int six = lower | (upper >> (2 * part) & 3) << 4;
    write_from_table(kUneven, d * static_cast<float>(six - 32), b + 8 + part * 16, 16, values + part * 32);
  }
}

// A scale 2^(e - 127), halved for the doubled table; 255 is not a number.
void decode_mxfp4(const uint8_t* b, float* values) {
  float scale = b[0] == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0f, b[0] - 128);
  write_from_table(kE2M1Doubled, scale, b + 1, 16, values);
}

// Four parts of 16 with a scale each: e4m3 without a sign, of which 127 stands for 0; halved for the doubled table.
void decode_nvfp4(const uint8_t* b, float* values) {
  for (int part = 0; part < 4; ++part) {
    const uint8_t bits = b[part];
    int exponent = bits >> 3 & 15, mantissa = bits & 7;
    float scale = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -10)
                                : std::ldexp(static_cast<float>(8 + mantissa), exponent - 11);
    write_from_table(kE2M1Doubled, bits == 127 ? 0 : scale, b + 4 + part * 8, 8, values + part * 16);
  }
}

// -1, 0 or 1 as the first base-3 digit of a byte / 256.
int first_digit(int byte) { return (byte & 255) * 3 >> 8; }

// Five digits a byte: of 32 bytes, then of 16; four of the last 4; d. Digit n is the first of byte * 3^n.
void decode_tq1_0(const uint8_t* b, float* values) {
  float d = half_at(b + 52);
  const struct { int begin, bytes, digits; } groups[] = {{0, 32, 5}, {32, 16, 5}, {48, 4, 4}};
  for (const auto& group : groups) {
    for (int digit = 0, power = 1; digit < group.digits; ++digit, power *= 3) {
      for (int i = 0; i < group.bytes; ++i)
        *values++ = d * static_cast<float>(first_digit(b[group.begin + i] * power) - 1);
    }
  }
}

void decode_tq2_0(const uint8_t* b, float* values) {
  float d = half_at(b + 64);
  for (int at = 0; at < 256; ++at) values[at] = d * static_cast<float>(two_bits(b, at) - 1);
}

constexpr GgufType kTypes[] = {{0, "F32", DType::kF32, 1, 4},
                               {1, "F16", DType::kF16, 1, 2},
                               {2, "Q4_0", DType::kF32, 32, 18, decode_q4_0},
                               {3, "Q4_1", DType::kF32, 32, 20, decode_q4_1},
                               {6, "Q5_0", DType::kF32, 32, 22, decode_q5_0},
                               {7, "Q5_1", DType::kF32, 32, 24, decode_q5_1},
                               {8, "Q8_0", DType::kF32, 32, 34, decode_q8_0},
                               {10, "Q2_K", DType::kF32, 256, 84, decode_q2_k},
                               {11, "Q3_K", DType::kF32, 256, 110, decode_q3_k},
                               {12, "Q4_K", DType::kF32, 256, 144, decode_q4_k},
                               {13, "Q5_K", DType::kF32, 256, 176, decode_q5_k},
                               {14, "Q6_K", DType::kF32, 256, 210, decode_q6_k},
                               {20, "IQ4_NL", DType::kF32, 32, 18, decode_iq4_nl},
                               {23, "IQ4_XS", DType::kF32, 256, 136, decode_iq4_xs},
                               {30, "BF16", DType::kBF16, 1, 2},
                               {34, "TQ1_0", DType::kF32, 256, 54, decode_tq1_0},
                               {35, "TQ2_0", DType::kF32, 256, 66, decode_tq2_0},
                               {39, "MXFP4", DType::kF32, 32, 17, decode_mxfp4},
                               {40, "NVFP4", DType::kF32, 64, 36, decode_nvfp4}};

// Types that occur in files and are not read, so that a message can name them.
constexpr struct {
  uint32_t id;
  const char* name;
} kUnread[] = {{4, "Q4_2"},        {5, "Q4_3"},        {9, "Q8_1"},      {15, "Q8_K"},     {16, "IQ2_XXS"},
               {17, "IQ2_XS"},     {18, "IQ3_XXS"},    {19, "IQ1_S"},    {21, "IQ3_S"},    {22, "IQ2_S"},
               {24, "I8"},         {25, "I16"},        {26, "I32"},      {27, "I64"},      {28, "F64"},
               {29, "IQ1_M"},      {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {36, "IQ4_NL_4_4"},
               {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"}, {41, "Q1_0"}};

}  // namespace

const GgufType* gguf_type(uint32_t id) {
  for (const GgufType& type : kTypes) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

std::string gguf_type_name(uint32_t id) {
  if (const GgufType* type = gguf_type(id); type != nullptr) return type->name;
  for (const auto& unread : kUnread) {
    if (unread.id == id) return unread.name;
  }
  return std::to_string(id);
}

}  // namespace liveavatar
