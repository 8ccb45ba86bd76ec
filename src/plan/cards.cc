#include "plan/cards.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace liveavatar {
namespace {

constexpr double kGb = 1e9, kTera = 1e12;
// 22.15 GB of a 24 GB card are left for a job once driver, context and display are there.
constexpr double kUsableShare = 22.15 / 24;
// One lane in one direction after 128b/130b coding: 16 and 32 GT/s (the PCI Express base specification).
constexpr double kPcie4LaneBytesPerS = 16e9 / 8 * 128 / 130, kPcie5LaneBytesPerS = 2 * kPcie4LaneBytesPerS;

struct Card {
  const char* name;
  int compute_capability;
  double memory_gb, bf16_tera, fp8_tera, int8_tera, gb_per_s;
  double lane_bytes_per_s;
  int lanes;
};
// Dense rates; a data sheet that says sparse rates says twice as much. Sources:
// * GeForce: the appendices of the white papers on GA102, Ada and Blackwell, for the rates with sums in f32. These are
//   half of the rates with sums in f16, which are the ones in advertisements. Of cards without a row there (3060,
//   4060 Ti, 4070), multiprocessors times boost clock times the operations a clock of the same architecture: 512 in
//   bf16, 1024 in fp8, 2048 in int8. Ampere has no fp8.
// * A10, L4, L40S, A100, H100 SXM, H200 SXM: their data sheets; full rates with sums in f32. The A100s are the SXM
// ones.
// * B200: one of the eight of the HGX B200 in the Blackwell data sheet, which says sparse rates.
constexpr Card kCards[] = {
    {"rtx3060", 86, 12, 25.5, 0, 102, 360, kPcie4LaneBytesPerS, 16},
    {"rtx3090", 86, 24, 71, 0, 284, 936, kPcie4LaneBytesPerS, 16},
    {"rtx4060ti", 89, 16, 44.1, 88.3, 176.5, 288, kPcie4LaneBytesPerS, 8},
    {"rtx4070", 89, 12, 58.3, 116.6, 233.2, 504, kPcie4LaneBytesPerS, 16},
    {"rtx4090", 89, 24, 165.2, 330.3, 660.6, 1008, kPcie4LaneBytesPerS, 16},
    {"rtx5090", 120, 32, 209.5, 419, 838, 1792, kPcie5LaneBytesPerS, 16},
    {"a10", 86, 24, 125, 0, 250, 600, kPcie4LaneBytesPerS, 16},
    {"l4", 89, 24, 121, 242.5, 242.5, 300, kPcie4LaneBytesPerS, 16},
    {"l40s", 89, 48, 362, 733, 733, 864, kPcie4LaneBytesPerS, 16},
    {"a100-40gb", 80, 40, 312, 0, 624, 1555, kPcie4LaneBytesPerS, 16},
    {"a100", 80, 80, 312, 0, 624, 2039, kPcie4LaneBytesPerS, 16},
    {"h100", 90, 80, 989, 1979, 1979, 3350, kPcie5LaneBytesPerS, 16},
    {"h200", 90, 141, 989, 1979, 1979, 4800, kPcie5LaneBytesPerS, 16},
    {"b200", 100, 180, 2250, 4500, 4500, 7700, kPcie5LaneBytesPerS, 16},
};

DeviceProfile profile(const Card& card) {
  DeviceProfile device;
  device.name = card.name;
  device.memory_bytes = static_cast<size_t>(card.memory_gb * kGb * kUsableShare);
  device.bf16_flops_per_s = card.bf16_tera * kTera;
  device.fp8_flops_per_s = card.fp8_tera * kTera;
  device.int8_ops_per_s = card.int8_tera * kTera;
  device.bytes_per_s = card.gb_per_s * kGb;
  device.pcie_bytes_per_s = card.lane_bytes_per_s * card.lanes;
  device.compute_capability = card.compute_capability;
  return device;
}

Status wrong(const std::string& text) {
  std::string names;
  for (const Card& card : kCards) names += std::string(card.name) + ", ";
  return invalid_argument("device " + text + ": choose " + names +
                          "or custom:MEMORY,FLOPS,BYTES[,PCIE_BYTES] as in custom:24GiB,165e12,1008e9; several as in "
                          "4xrtx4090");
}

// A positive number and its unit, from `at` to the next comma or the end. 0: it is not one.
double read_number(const char*& at) {
  char* end = nullptr;
  const double value = std::strtod(at, &end);
  const bool good = end != at && value > 0 && value <= 1e21;
  std::string unit;
  for (at = end; *at != '\0' && *at != ','; ++at) unit += *at;
  if (!good) return 0;
  if (unit == "GiB") return value * double(size_t{1} << 30);
  if (unit == "GB") return value * kGb;
  return unit.empty() ? value : 0;
}

Expected<DeviceProfile> custom(const std::string& text) {
  const char* at = text.c_str() + std::string("custom:").size();
  std::vector<double> values;
  for (bool more = true; more;) {
    values.push_back(read_number(at));
    more = *at == ',';
    if (more) ++at;
  }
  if (std::count(values.begin(), values.end(), 0) > 0 || values.size() < 3 || values.size() > 4) return wrong(text);
  DeviceProfile device;
  device.name = "custom";
  device.memory_bytes = static_cast<size_t>(values[0]);
  device.bf16_flops_per_s = values[1];
  device.bytes_per_s = values[2];
  device.pcie_bytes_per_s = values.size() == 4 ? values[3] : 16 * kPcie4LaneBytesPerS;
  return device;
}

}  // namespace

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
    device = profile(*card);
  }
  device.count = count;
  return device;
}

std::vector<DeviceProfile> card_profiles() {
  std::vector<DeviceProfile> all;
  for (const Card& card : kCards) all.push_back(profile(card));
  return all;
}

}  // namespace liveavatar
