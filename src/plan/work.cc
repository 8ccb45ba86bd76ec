#include "plan/work.h"

#include "session/block_schedule.h"

namespace liveavatar {
namespace {

// Of all layers, without audio, over so many tokens.
double layers_product_flops(const DitConfig& c, int64_t tokens) {
  double d = double(c.dim);
  double matrices = 6 * d * d + 2 * d * double(c.ffn_dim);  // q k v o of self, q o of cross (its k, v are cached), ffn
  return 2 * double(tokens) * double(c.layers) * matrices;
}

// Of one DiT forward over a block of tokens.
double forward_product_flops(const DitConfig& c, const DitGeometry& g) {
  double d = double(c.dim), audio_attention = 2 * d * d;
  return layers_product_flops(c, g.block_tokens()) +
         2 * double(g.block_tokens()) * double(c.audio_inject_layers.size()) * audio_attention;
}

double layers_attention_flops(const DitConfig& c, int64_t tokens, int64_t keys) {
  return double(c.layers) * 4 * double(tokens) * double(keys) * double(c.dim);
}

}  // namespace

Work work_per_block(const JobShape& r, const MemoryPlan& plan) {
  DitGeometry g = r.geometry();
  Work work;
  const DitConfig& dit = r.shapes.dit;
  work.product_flops = double(r.steps) * forward_product_flops(dit, g);
  const int64_t keys = g.kv_cache_tokens() + g.sink_tokens() + dit.text_len;
  work.attention_flops = double(r.steps) * layers_attention_flops(dit, g.block_tokens(), keys);
  work.prompt_flops = double(r.steps) * layers_attention_flops(dit, g.block_tokens(), dit.text_len);
  work.sink_product_flops = layers_product_flops(dit, g.sink_tokens());
  work.sink_attention_flops = layers_attention_flops(dit, g.sink_tokens(), g.sink_tokens() + dit.text_len);
  work.sink_prompt_flops = layers_attention_flops(dit, g.sink_tokens(), dit.text_len);
  work.products = plan.int8_products ? DType::kI8 : r.types().values;
  work.vae_flops = double(kBlockFrames * decode_flops_per_frame(r.shapes.vae, g.latent_height, g.latent_width));
  const size_t weight_bytes = plan.steady_by_category[size_t(MemoryCategory::kWeights)] - plan.resting_bytes;
  work.weight_bytes = double(weight_bytes + plan.paged_bytes);
  double caches = double(plan.steady_by_category[size_t(MemoryCategory::kKvCache)] + plan.kv_cache_bytes);
  work.bytes = double(r.steps) * work.weight_bytes + caches;
  const auto passes = double(BlockSchedule{r.steps, r.blocks_in_flight()}.ticks_between_blocks());
  work.link_bytes = double(plan.paged_bytes) * passes + double(plan.paged_block_bytes + plan.kv_cache_bytes);
  work.disk_bytes =
      double(plan.paged_disk_bytes) * passes + double(plan.paged_block_disk_bytes + plan.kv_cache_disk_bytes);
  return work;
}

double lead_steps(const Work& work, int64_t steps) { return work.vae_flops * double(steps) / work.dit_flops(); }

}  // namespace liveavatar
