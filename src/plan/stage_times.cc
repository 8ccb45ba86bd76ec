#include "plan/stage_times.h"

#include <algorithm>

namespace liveavatar {
namespace {

constexpr LinkType kLinkTypes[] = {LinkType::kPcie, LinkType::kNvlink, LinkType::kEthernet10, LinkType::kEthernet100};
constexpr double kF32Bytes = 4;

// Queries, keys, values and the attention's output of so many tokens, in all layers.
double exchange_bytes(const JobShape& job, int64_t tokens) {
  const DitConfig& dit = job.shapes.dit;
  return 4 * double(tokens) * double(dit.dim * dit.layers) * double(dtype_bytes(job.types().values));
}

struct ReadingTimes {
  double weights_s = 0, dealt_s = 0;  // as of ForwardTimes
};

// To read the weights once, from the card's memory; over PCIe what cannot be there, or, where they are dealt to ranks,
// what others have.
ReadingTimes reading_times(const JobShape& job, const Work& work, const DeviceProfile& device, LinkType link) {
  const double card_s = work.weight_bytes / (device.bytes_per_s * kBandwidthShare);
  if (job.shard_weights) return {card_s, work.weight_bytes / page_link(link, device).bytes_per_s};
  const double beyond = std::max(0.0, work.weight_bytes - double(device.memory_bytes));
  return {std::max(card_s, beyond / (device.pcie_bytes_per_s * kBandwidthShare)), 0};
}

ForwardTimes step_times(const JobShape& job, const Work& work, const DeviceProfile& device,
                        const ReadingTimes& reading) {
  const double steps = double(job.steps), flops_per_s = device.bf16_flops_per_s * kArithmeticShare;
  const double bytes_per_s = device.bytes_per_s * kBandwidthShare;
  ForwardTimes f;
  f.by_tokens_s = work.product_flops / steps / (product_rate(work.products, device) * kArithmeticShare) +
                  work.prompt_flops / steps / flops_per_s;
  f.by_heads_s = (work.attention_flops - work.prompt_flops) / steps / flops_per_s;
  f.weights_s = reading.weights_s;
  f.dealt_s = reading.dealt_s;
  f.keys_values_s = (work.bytes / steps - work.weight_bytes) / bytes_per_s;
  f.exchanges = 2 * job.shapes.dit.layers;
  f.exchange_bytes = exchange_bytes(job, job.geometry().block_tokens());
  return f;
}

ForwardTimes sink_times(const JobShape& job, const Work& work, const DeviceProfile& device,
                        const ReadingTimes& reading) {
  const double flops_per_s = device.bf16_flops_per_s * kArithmeticShare;
  ForwardTimes f;
  f.by_tokens_s = work.sink_product_flops / (product_rate(work.products, device) * kArithmeticShare) +
                  work.sink_prompt_flops / flops_per_s;
  f.by_heads_s = (work.sink_attention_flops - work.sink_prompt_flops) / flops_per_s;
  f.weights_s = reading.weights_s;
  f.dealt_s = reading.dealt_s;
  f.exchanges = 2 * job.shapes.dit.layers;
  f.exchange_bytes = exchange_bytes(job, job.geometry().sink_tokens());
  return f;
}

// All f32: the latents and what the solver keeps of a block, its audio columns, a pose, masks.
double block_bytes(const JobShape& job, double latents) {
  const DitConfig& dit = job.shapes.dit;
  const DitGeometry g = job.geometry();
  const auto actors = double(job.actors());
  double values = latents * double(1 + job.solver_tensors + (job.pose.empty() ? 0 : 1));
  values += actors * double(dit.audio_layers * dit.audio_dim * kBlockColumns);
  if (job.actors() > 1) values += actors * double(g.block_tokens());
  return values * kF32Bytes;
}

}  // namespace

std::optional<StageTimes> stage_times(const JobShape& job, const Work& work, const DeviceProfile& device,
                                      LinkType link) {
  if (work.products == DType::kF32) return std::nullopt;
  const DitGeometry g = job.geometry();
  const double latent = double(job.shapes.dit.channels * g.latent_height * g.latent_width);
  StageTimes times;
  const ReadingTimes reading = reading_times(job, work, device, link);
  times.step = step_times(job, work, device, reading);
  times.prefill = sink_times(job, work, device, reading);
  times.heads = job.shapes.dit.heads;
  times.tokens = g.latent_tokens();
  times.decode_s = work.vae_flops / (device.bf16_flops_per_s * kArithmeticShare);
  times.decode_beside = job.decodes_beside();
  times.online_decode = job.online_decode;
  times.finished_bytes = double(g.block_latents) * latent * kF32Bytes;
  times.block_bytes = block_bytes(job, double(g.block_latents) * latent);
  times.reference_bytes = latent * kF32Bytes;
  return times;
}

const char* link_name(LinkType type) {
  constexpr const char* kNames[] = {"pcie", "nvlink", "10gbe", "100gbe"};
  return kNames[static_cast<size_t>(type)];
}

Expected<LinkType> link_type(const std::string& name) {
  const auto* type =
      std::find_if(std::begin(kLinkTypes), std::end(kLinkTypes), [&](LinkType t) { return name == link_name(t); });
  if (type != std::end(kLinkTypes)) return *type;
  return invalid_argument("link " + name + ": choose pcie, nvlink, 10gbe or 100gbe");
}

Link device_link(LinkType type, const DeviceProfile& device) {
  // Messages are in host memory: down from one card and up to the other, one after the other.
  const double host_s_per_byte = 2 / (device.pcie_bytes_per_s * kBandwidthShare);
  auto ethernet = [&](double bytes_per_s) {
    return Link{1 / (host_s_per_byte + 1 / (bytes_per_s * kBandwidthShare)), kEthernetLatencyS};
  };
  switch (type) {
    case LinkType::kPcie:
      return {1 / host_s_per_byte, kPcieLatencyS};
    case LinkType::kNvlink:
      return {kNvlinkBytesPerS * kBandwidthShare, kNvlinkLatencyS};
    case LinkType::kEthernet10:
      return ethernet(kEthernet10BytesPerS);
    case LinkType::kEthernet100:
      return ethernet(kEthernet100BytesPerS);
  }
  return {};
}

Link page_link(LinkType type, const DeviceProfile& device) {
  return device_link(type == LinkType::kNvlink ? LinkType::kPcie : type, device);
}

}  // namespace liveavatar
