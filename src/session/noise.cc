#include "session/noise.h"

#include <cmath>
#include <numbers>

namespace liveavatar {
namespace {

// Keeps the noise and the choices apart: the last counter word tells the stream.
enum Stream : uint32_t { kNoise = 0, kChoices = 1u << 31 };

std::array<uint32_t, 4> draw(uint64_t seed, uint64_t block, uint64_t index, Stream stream) {
  return philox(
      {static_cast<uint32_t>(index), static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), stream},
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

// (0, 1], so that its logarithm is finite.
double unit(uint32_t bits) { return (double(bits) + 1.0) * 0x1p-32; }

}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(a)};
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  return c;
}

void fill_noise(uint64_t seed, uint64_t block, std::span<float> out) {
  for (size_t i = 0; i < out.size(); i += 4) {
    std::array<uint32_t, 4> bits = draw(seed, block, i / 4, kNoise);
    for (size_t pair = 0; pair < 4 && i + pair < out.size(); pair += 2) {
      double radius = std::sqrt(-2 * std::log(unit(bits[pair]))), angle = 2 * std::numbers::pi * unit(bits[pair + 1]);
      out[i + pair] = static_cast<float>(radius * std::cos(angle));
      if (i + pair + 1 < out.size()) out[i + pair + 1] = static_cast<float>(radius * std::sin(angle));
    }
  }
}

uint32_t random_bits(uint64_t seed, uint64_t block, uint64_t lane) { return draw(seed, block, lane, kChoices)[0]; }

}  // namespace liveavatar
