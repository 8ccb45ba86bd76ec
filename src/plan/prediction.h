// How fast a job is on a card, and what limits it. Predicted, never measured: docs/plan.md states the model.
#pragma once

#include <algorithm>
#include <optional>

#include "plan/cards.h"
#include "plan/work.h"

namespace liveavatar {

// Assumptions. Large products and attention reach 65 % of a data sheet's rate, copies 85 % of a bandwidth. Nobody knows
// the disk: an NVMe SSD of the middle reads and writes so fast.
constexpr double kArithmeticShare = 0.65, kBandwidthShare = 0.85;
constexpr double kDiskBytesPerS = 3e9;

enum class Limit { kArithmetic, kCardMemory, kPcie, kDisk };
const char* limit_name(Limit limit);  // "arithmetic", "card memory", "PCIe", "disk"

// Each resource's time for a block of 12 frames.
struct Prediction {
  double arithmetic_seconds = 0, card_memory_seconds = 0, pcie_seconds = 0, disk_seconds = 0;

  // A page comes from disk and over PCIe in pieces, both at once; meanwhile the card computes.
  double paging_seconds() const { return std::max(pcie_seconds, disk_seconds); }
  double seconds_per_block() const;
  double frames_per_s() const;
  Limit limit() const;
};
// None for products in f32: data sheets have no rate of our kernels for them.
std::optional<Prediction> predict(const Work& work, const DeviceProfile& device);

// Products a second at the data sheet's rate. A card without products of a narrow type unpacks it to bf16.
double product_rate(DType products, const DeviceProfile& device);

// A lower bound, at the data sheet's rates: whichever of computing and moving in the card's memory takes longer.
double least_seconds_per_block(const Work& work, const DeviceProfile& device);

}  // namespace liveavatar
