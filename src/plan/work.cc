#include "plan/work.h"

#include "session/block_schedule.h"

namespace liveavatar {
namespace {

// Of one DiT forward over a block of tokens.
double forward_product_flops(const DitConfig& c, const DitGeometry& g) {
  double d = double(c.dim), tokens = double(g.block_tokens());
  double matrices = 6 * d * d + 2 * d * double(c.ffn_dim);  // q k v o of self, q o of cross (its k, v are cached), ffn
  double audio_attention = 2 * d * d;
  return 2 * tokens * (double(c.layers) * matrices + double(c.audio_inject_layers.size()) * audio_attention);
}

double forward_attention_flops(const DitConfig& c, const DitGeometry& g) {
  double keys = double(g.kv_cache_tokens() + g.sink_tokens() + c.text_len);
  return double(c.layers) * 4 * double(g.block_tokens()) * keys * double(c.dim);
}

}  // namespace

Work work_per_block(const JobShape& r, const MemoryPlan& plan) {
  DitGeometry g = r.geometry();
  Work work;
  work.product_flops = double(r.steps) * forward_product_flops(r.shapes.dit, g);
  work.attention_flops = double(r.steps) * forward_attention_flops(r.shapes.dit, g);
  work.products = plan.int8_products ? DType::kI8 : r.types().values;
  work.vae_flops = double(kBlockFrames * decode_flops_per_frame(r.shapes.vae, g.latent_height, g.latent_width));
  double weights = double(plan.steady_by_category[size_t(MemoryCategory::kWeights)] + plan.paged_bytes);
  double caches = double(plan.steady_by_category[size_t(MemoryCategory::kKvCache)] + plan.kv_cache_bytes);
  work.bytes = double(r.steps) * weights + caches;
  const auto passes = double(BlockSchedule{r.steps, r.blocks_in_flight()}.ticks_between_blocks());
  work.link_bytes = double(plan.paged_bytes) * passes + double(plan.kv_cache_bytes);
  work.disk_bytes = double(plan.paged_disk_bytes) * passes + double(plan.kv_cache_disk_bytes);
  return work;
}

}  // namespace liveavatar
