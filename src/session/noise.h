// Seeded noise by counter: a value depends on (seed, block, position) alone, never on what was drawn before it.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace liveavatar {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Standard normal values (Box-Muller on Philox): out[i] belongs to (seed, block, i).
void fill_noise(uint64_t seed, uint64_t block, std::span<float> out);

// 32 uniform bits for (seed, block, lane), in a stream of their own.
uint32_t random_bits(uint64_t seed, uint64_t block, uint64_t lane);

}  // namespace liveavatar
