#include "plan/prediction.h"

#include <algorithm>

namespace liveavatar {
namespace {

double arithmetic_seconds(const Work& work, const DeviceProfile& device) {
  return work.product_flops / product_rate(work.products, device) +
         (work.attention_flops + work.vae_flops) / device.bf16_flops_per_s;
}

}  // namespace

double product_rate(DType products, const DeviceProfile& device) {
  double rate = 0;
  if (products == DType::kI8) rate = device.int8_ops_per_s;
  if (products == DType::kF8E4M3) rate = device.fp8_flops_per_s;
  return rate > 0 ? rate : device.bf16_flops_per_s;
}

const char* limit_name(Limit limit) {
  switch (limit) {
    case Limit::kArithmetic:
      return "arithmetic";
    case Limit::kCardMemory:
      return "card memory";
    case Limit::kPcie:
      return "PCIe";
    case Limit::kDisk:
      return "disk";
  }
  return "";
}

double Prediction::seconds_per_block() const {
  return std::max({arithmetic_seconds, card_memory_seconds, paging_seconds()});
}

double Prediction::frames_per_s() const { return double(kBlockFrames) / seconds_per_block(); }

Limit Prediction::limit() const {
  if (paging_seconds() > std::max(arithmetic_seconds, card_memory_seconds))
    return disk_seconds >= pcie_seconds ? Limit::kDisk : Limit::kPcie;
  return arithmetic_seconds >= card_memory_seconds ? Limit::kArithmetic : Limit::kCardMemory;
}

std::optional<Prediction> predict(const Work& work, const DeviceProfile& device) {
  if (work.products == DType::kF32) return std::nullopt;
  Prediction p;
  p.arithmetic_seconds = arithmetic_seconds(work, device) / kArithmeticShare;
  p.card_memory_seconds = work.bytes / (device.bytes_per_s * kBandwidthShare);
  p.pcie_seconds = work.link_bytes / (device.pcie_bytes_per_s * kBandwidthShare);
  p.disk_seconds = work.disk_bytes / kDiskBytesPerS;
  return p;
}

double least_seconds_per_block(const Work& work, const DeviceProfile& device) {
  return std::max(arithmetic_seconds(work, device), work.bytes / device.bytes_per_s);
}

}  // namespace liveavatar
