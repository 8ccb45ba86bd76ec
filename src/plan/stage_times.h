// What ranks of a video need on cards: the time model of docs/plan.md, dealt to what ranks share. Predicted.
#pragma once

#include <optional>
#include <string>

#include "plan/prediction.h"
#include "plan/rank_simulation.h"

namespace liveavatar {

// How two devices reach each other.
enum class LinkType { kPcie, kNvlink, kEthernet10, kEthernet100 };

// Keys and values of a rank are taken to be on its card, and weights as far as its memory goes; the others come over
// PCIe in each step, or from their owners (page_link). None for products in f32, as predict().
std::optional<StageTimes> stage_times(const JobShape& job, const Work& work, const DeviceProfile& device,
                                      LinkType link = LinkType::kPcie);

const char* link_name(LinkType type);  // "pcie", "nvlink", "10gbe", "100gbe"
Expected<LinkType> link_type(const std::string& name);

// Sources are in docs/many_devices_plan.md. Bytes a second of the wire, in one direction.
constexpr double kNvlinkBytesPerS = 450e9;  // of an H100
constexpr double kEthernet10BytesPerS = 10e9 / 8, kEthernet100BytesPerS = 100e9 / 8;
// Assumed: of a message of no bytes, with the copies to and from host memory.
constexpr double kPcieLatencyS = 20e-6, kNvlinkLatencyS = 10e-6, kEthernetLatencyS = 50e-6;

// Of what ranks exchange.
Link device_link(LinkType type, const DeviceProfile& device);
// Of pages of dealt weights, which go through host memory whatever links the cards.
Link page_link(LinkType type, const DeviceProfile& device);

}  // namespace liveavatar
