// What a block is made from: noise, audio, poses and masks, block after block.
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "backend/backend.h"
#include "session/actor_masks.h"
#include "session/denoiser.h"
#include "session/pose.h"
#include "session/voices.h"

namespace liveavatar {

// One video; blocks in order. Everything it is given outlives it. Not thread-safe.
class Conditioner {
 public:
  struct Sources {
    AudioColumns* audio = nullptr;
    PoseEncoder* pose = nullptr;  // null: no pose video
    ActorMasks* masks = nullptr;  // null: one speaker
    uint64_t seed = 420;          // of the noise
    // Instead of seeded noise [16, 3, h, w]; for tests.
    std::function<void(int64_t block, std::span<float> noise)> noise;
  };
  Conditioner(Backend& backend, const BlockMemory& memory, const Sources& sources)
      : backend_(backend), memory_(memory), sources_(sources) {}

  // Fills the block's places in the memory, which are free again when as many blocks have followed as it holds.
  // Nothing: the audio has ended.
  Expected<std::optional<BlockStart>> block(int64_t block);
  // The block's noise. Again for a block that was filled: the same.
  void fill_noise_of(int64_t block, const Tensor& latents);

 private:
  Backend& backend_;
  const BlockMemory& memory_;
  Sources sources_;
};

}  // namespace liveavatar
