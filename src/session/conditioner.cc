#include "session/conditioner.h"

#include "ops/transfer.h"
#include "session/noise.h"

namespace liveavatar {

void Conditioner::fill_noise_of(int64_t block, const Tensor& latents) {
  Upload noise(backend_, latents);
  if (sources_.noise) {
    sources_.noise(block, noise.values());
  } else {
    fill_noise(sources_.seed, static_cast<uint64_t>(block), noise.values());
  }
}

Expected<std::optional<BlockStart>> Conditioner::block(int64_t block) {
  BlockStart start = memory_.start(block);
  LA_ASSIGN_OR_RETURN(bool more,
                      sources_.audio->columns(block * kBlockFrames, kBlockFrames, start.features.host<float>()));
  if (!more) return std::optional<BlockStart>();
  fill_noise_of(block, start.latents);
  if (sources_.pose != nullptr) {
    LA_RETURN_IF_ERROR(sources_.pose->next_block(start.pose));
  }
  if (sources_.masks != nullptr) {
    LA_RETURN_IF_ERROR(sources_.masks->block(block, Upload(backend_, start.actor_masks).f32()));
  }
  return std::optional<BlockStart>(start);
}

}  // namespace liveavatar
