#include "session/conditioner.h"

#include "ops/transfer.h"
#include "session/noise.h"

namespace liveavatar {
namespace {

const Tensor& place_of(const std::vector<OwnedTensor>& places, int64_t block) {
  return places[static_cast<size_t>(block) % places.size()].tensor;
}

}  // namespace

Expected<std::optional<BlockStart>> Conditioner::block(int64_t block) {
  BlockStart start;
  start.features = memory_.features.tensor;
  LA_ASSIGN_OR_RETURN(bool more,
                      sources_.audio->columns(block * kBlockFrames, kBlockFrames, start.features.host<float>()));
  if (!more) return std::optional<BlockStart>();
  start.latents = place_of(memory_.latents, block);
  {
    Upload noise(backend_, start.latents);
    if (sources_.noise) {
      sources_.noise(block, noise.values());
    } else {
      fill_noise(sources_.seed, static_cast<uint64_t>(block), noise.values());
    }
  }
  if (sources_.pose != nullptr) {
    start.pose = place_of(memory_.poses, block);
    LA_RETURN_IF_ERROR(sources_.pose->next_block(start.pose));
  }
  if (sources_.masks != nullptr) {
    start.actor_masks = place_of(memory_.masks, block);
    LA_RETURN_IF_ERROR(sources_.masks->block(block, Upload(backend_, start.actor_masks).f32()));
  }
  return std::optional<BlockStart>(start);
}

}  // namespace liveavatar
