#include "session/snapshot_size.h"

#include "models/wan_vae/memory.h"

namespace liveavatar {

uint64_t snapshot_bytes(const JobShape& shape) {
  const KvCacheShape kv = shape.kv_caches();
  const DitGeometry& g = kv.geometry;
  const auto slots = static_cast<uint64_t>(g.clip_latents / g.block_latents);
  const uint64_t keys = kv_cache_bytes_per_block(kv, kv.count()) / slots * (slots - 1);
  const VaeInput decoder{g.latent_height, g.latent_width, shape.types().values};
  const int64_t block = shape.shapes.dit.channels * g.block_latents * g.latent_height * g.latent_width;
  const int64_t in_flight = block * (1 + shape.solver_tensors) * shape.blocks_in_flight();
  return keys + decode_cache_bytes(shape.shapes.vae, decoder) +
         static_cast<uint64_t>(in_flight) * dtype_bytes(DType::kF32);
}

}  // namespace liveavatar
