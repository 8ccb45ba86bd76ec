// A channel for benches: the blocks of a memory that was filled before; what is made of them is dropped.
#pragma once

#include "session/denoiser.h"

namespace liveavatar {

class OneBlock : public LatentChannel {
 public:
  explicit OneBlock(const BlockMemory& memory) : memory_(memory) {}
  Expected<std::optional<BlockStart>> receive(int64_t) override {
    BlockStart start;
    start.features = memory_.features.tensor;
    start.latents = memory_.latents[0].tensor;
    return std::optional<BlockStart>(start);
  }
  Status send(int64_t, const Tensor&) override { return {}; }

 private:
  const BlockMemory& memory_;
};

}  // namespace liveavatar
