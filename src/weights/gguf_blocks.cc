#include "weights/gguf_blocks.h"

#include <cstring>

namespace liveavatar {
namespace {

float half_at(const uint8_t* p) {
  f16 h;
  std::memcpy(&h, p, sizeof(h));
  return to_f32(h);
}

int low(uint8_t byte) { return byte & 15; }
int high(uint8_t byte) { return byte >> 4; }

// Blocks of 32. Byte j of the codes holds value j in its low and value j + 16 in its high half; a fifth bit of value i
// is bit i of a word. value = scale * code + minimum.
struct Block32 {
  float scale = 0, minimum = 0;
  const uint8_t* codes = nullptr;
  uint32_t fifth_bits = 0;

  void write(float* values) const {
    for (int i = 0; i < 32; ++i) {
      int code = i < 16 ? low(codes[i]) : high(codes[i - 16]);
      values[i] = scale * static_cast<float>(code | static_cast<int>((fifth_bits >> i & 1) << 4)) + minimum;
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

// Super-blocks of 256, eight parts of 32: value = d * scale * code - d_min * minimum, scale and minimum of a part in
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

// 32 bytes of codes serve two parts, the low halves the even one; bit `part` of byte i of fifth_bits (or null) is the
// fifth bit of value i of the part.
void decode_k45(const SuperBlock& block, const uint8_t* fifth_bits, const uint8_t* codes, float* values) {
  for (int part = 0; part < 8; ++part) {
    float scale = block.scale(part), minimum = block.minimum(part);
    for (int i = 0; i < 32; ++i) {
      uint8_t byte = codes[part / 2 * 32 + i];
      int code = part % 2 == 0 ? low(byte) : high(byte);
      if (fifth_bits != nullptr) code |= (fifth_bits[i] >> part & 1) << 4;
      *values++ = scale * static_cast<float>(code) - minimum;
    }
  }
}

void decode_q4_k(const uint8_t* b, float* values) { decode_k45(SuperBlock(b), nullptr, b + 16, values); }
void decode_q5_k(const uint8_t* b, float* values) { decode_k45(SuperBlock(b), b + 16, b + 48, values); }

// Two halves of 128, four rows of 32 each: the low four bits of rows 0, 1 in the low and of rows 2, 3 in the high
// halves of 64 bytes, two upper bits a row in 32 bytes; a scale for 16 values; d behind all.
void decode_q6_k(const uint8_t* b, float* values) {
  const uint8_t* scales = b + 192;
  float d = half_at(b + 208);
  for (int at = 0; at < 256; ++at) {
    int half = at / 128, row = at % 128 / 32, i = at % 32;
    uint8_t byte = b[half * 64 + row % 2 * 32 + i];
    int upper = b[128 + half * 32 + i] >> (2 * row) & 3, code = (row < 2 ? low(byte) : high(byte)) | upper << 4;
    values[at] = d * static_cast<float>(static_cast<int8_t>(scales[at / 16])) * static_cast<float>(code - 32);
  }
}

constexpr GgufType kTypes[] = {{0, "F32", DType::kF32, 1, 4},
                               {1, "F16", DType::kF16, 1, 2},
                               {2, "Q4_0", DType::kF32, 32, 18, decode_q4_0},
                               {3, "Q4_1", DType::kF32, 32, 20, decode_q4_1},
                               {6, "Q5_0", DType::kF32, 32, 22, decode_q5_0},
                               {7, "Q5_1", DType::kF32, 32, 24, decode_q5_1},
                               {8, "Q8_0", DType::kF32, 32, 34, decode_q8_0},
                               {12, "Q4_K", DType::kF32, 256, 144, decode_q4_k},
                               {13, "Q5_K", DType::kF32, 256, 176, decode_q5_k},
                               {14, "Q6_K", DType::kF32, 256, 210, decode_q6_k},
                               {30, "BF16", DType::kBF16, 1, 2}};

}  // namespace

const GgufType* gguf_type(uint32_t id) {
  for (const GgufType& type : kTypes) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

}  // namespace liveavatar
