#include "plan/work.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "session/block_schedule.h"

namespace liveavatar {
namespace {

constexpr double kGb = 1e9, kTera = 1e12;
// 22.15 GB of a 24 GB card are left for a job once driver, context and display are there.
constexpr double kUsableShare = 22.15 / 24;

struct Card {
  const char* name;
  double memory_gb, tera_flops, gb_per_s;
};
constexpr Card kCards[] = {{"rtx3060", 12, 51, 360},
                           {"rtx4090", 24, 165, 1008},
                           {"a100", 80, 312, 2039},
                           {"h100", 80, 989, 3350},
                           {"h200", 141, 989, 4800}};

// Products of one DiT forward over a block of tokens.
double dit_forward_flops(const DitConfig& c, const DitGeometry& g) {
  double d = double(c.dim), tokens = double(g.block_tokens());
  double keys = double(g.kv_cache_tokens() + g.sink_tokens() + c.text_len);
  double matrices = 6 * d * d + 2 * d * double(c.ffn_dim);  // q k v o of self, q o of cross (its k, v are cached), ffn
  double layer = 2 * tokens * matrices + 4 * tokens * keys * d;
  double audio_attention = 2 * tokens * 2 * d * d;
  return double(c.layers) * layer + double(c.audio_inject_layers.size()) * audio_attention;
}

Status wrong(const std::string& text) {
  std::string names;
  for (const Card& card : kCards) names += std::string(card.name) + ", ";
  return invalid_argument("device " + text + ": choose " + names +
                          "or custom:MEMORY,FLOPS,BYTES as in custom:24GiB,165e12,1008e9; several as in 4xrtx4090");
}

Expected<DeviceProfile> custom(const std::string& text) {
  const char* at = text.c_str() + std::string("custom:").size();
  double values[3];
  for (int i = 0; i < 3; ++i) {
    char* end = nullptr;
    values[i] = std::strtod(at, &end);
    if (end == at || !(values[i] > 0) || values[i] > 1e21) return wrong(text);
    std::string unit;
    for (at = end; *at != '\0' && *at != ','; ++at) unit += *at;
    if (unit == "GiB") values[i] *= double(size_t{1} << 30);
    if (unit == "GB") values[i] *= kGb;
    if (unit != "" && unit != "GiB" && unit != "GB") return wrong(text);
    if ((*at == ',') != (i < 2)) return wrong(text);
    at += i < 2;
  }
  return DeviceProfile{"custom", static_cast<size_t>(values[0]), values[1], values[2]};
}

}  // namespace

Work work_per_block(const JobShape& r, const MemoryPlan& plan) {
  DitGeometry g = r.geometry();
  Work work;
  work.dit_flops = double(r.steps) * dit_forward_flops(r.shapes.dit, g);
  work.vae_flops = double(kBlockFrames * decode_flops_per_frame(r.shapes.vae, g.latent_height, g.latent_width));
  double weights = double(plan.steady_by_category[size_t(MemoryCategory::kWeights)]);
  double caches = double(plan.steady_by_category[size_t(MemoryCategory::kKvCache)]);
  work.bytes = double(r.steps) * weights + caches;
  work.disk_bytes =
      double(plan.paged_bytes) * double(BlockSchedule{r.steps, r.blocks_in_flight()}.ticks_between_blocks()) +
      double(plan.kv_cache_bytes);
  return work;
}

Expected<DeviceProfile> device_profile(const std::string& text) {
  int count = 1;
  std::string name = text;
  if (size_t x = text.find('x'); x != std::string::npos && x > 0) {
    auto [end, error] = std::from_chars(text.data(), text.data() + x, count);
    if (error == std::errc() && end == text.data() + x) name = text.substr(x + 1);
  }
  if (count < 1 || count > 1024) return wrong(text);
  DeviceProfile device;
  if (name.starts_with("custom:")) {
    LA_ASSIGN_OR_RETURN(device, custom(name));
  } else {
    auto card = std::find_if(std::begin(kCards), std::end(kCards), [&](const Card& c) { return name == c.name; });
    if (card == std::end(kCards)) return wrong(text);
    device = {card->name, static_cast<size_t>(card->memory_gb * kGb * kUsableShare), card->tera_flops * kTera,
              card->gb_per_s * kGb};
  }
  device.count = count;
  return device;
}

double seconds_per_block(const Work& work, const DeviceProfile& device) {
  return std::max((work.dit_flops + work.vae_flops) / device.flops_per_s, work.bytes / device.bytes_per_s);
}

}  // namespace liveavatar
