// The backends by name.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/device_source.h"

namespace liveavatar {

// Four for each CPU that this process may use: waiting threads spin, so many more make a job very slow (1024 on two
// CPUs: 68 s instead of 0.5 s).
int most_threads();

// A backend of the host. device: "reference" or "cpu". An unknown device, or an ISA that this machine lacks, is an
// error that lists the choices. The number of threads is limited to most_threads().
Expected<std::unique_ptr<Backend>> make_backend(const std::string& device, const BackendOptions& options);

// Which card `device` names: 0 of "cuda", N of "cuda:N". None: it names no card.
std::optional<int> card_index(const std::string& device);
bool is_card(const std::string& device);
// That card. kUnsupported or kNotFound: why there is none.
Expected<std::unique_ptr<DeviceSource>> open_card_device(const std::string& device);
// What is free on it now.
Expected<size_t> card_free_bytes(const std::string& device);
// The same device for plans: it need not be there, has no memory and computes nothing.
std::unique_ptr<DeviceSource> plan_card_device(const std::string& device);
// What packs weights for a device: for a card, which need not be there, or for the host.
struct PackingBackend {
  std::unique_ptr<DeviceSource> card;  // null: the host
  std::unique_ptr<Backend> backend;
};
Expected<PackingBackend> make_packing_backend(const std::string& device, const BackendOptions& options);
// Where cards keep what BackendOptions::tune found; empty: nowhere.
std::string card_choice_file();
// Of such a card: its libraries, or why there is none, and what is kept of it; lines for `doctor`.
std::vector<std::string> describe_card_choices(const std::string& device);
// A line for each card of this machine, or one that says why there is none; for `doctor`.
std::vector<std::string> describe_cards();

}  // namespace liveavatar
