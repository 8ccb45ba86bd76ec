#include "session/rank_devices.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <string_view>

#include "core/threads.h"
#include "ops/make_backend.h"

namespace liveavatar {
namespace {

constexpr std::string_view kProcesses = "mpi:";

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> items;
  size_t begin = 0;
  for (size_t comma = text.find(','); comma != std::string::npos; comma = text.find(',', begin)) {
    items.push_back(text.substr(begin, comma - begin));
    begin = comma + 1;
  }
  items.push_back(text.substr(begin));
  return items;
}

// A whole number above 0, or 0.
int64_t count_of(const std::string& text) {
  int64_t count = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, count);
  return error == std::errc() && stop == end && count > 0 ? count : 0;
}

Status no_device(const std::string& item, const std::string& all) {
  return invalid_argument("`devices` " + all + ": \"" + item +
                          "\" names no device; give cpu, cpu:N (N ranks on the CPU) or cuda:N (card N), with commas");
}

Status add_item(const std::string& item, const std::string& all, std::vector<std::string>& devices) {
  if (is_card(item)) {
    const auto same = [&](const std::string& other) { return is_card(other) && card_index(other) == card_index(item); };
    if (std::any_of(devices.begin(), devices.end(), same))
      return invalid_argument("`devices` " + all + ": card " + item + " is there twice; name each card once");
    devices.push_back(item);
    return {};
  }
  const size_t colon = item.find(':');
  const std::string kind = item.substr(0, colon);
  const int64_t count = colon == std::string::npos ? 1 : count_of(item.substr(colon + 1));
  if ((kind != "cpu" && kind != "reference") || count == 0) return no_device(item, all);
  if (count > kMostRanks)
    return invalid_argument("`devices` " + item + ": give up to " + std::to_string(kMostRanks) + " ranks");
  devices.insert(devices.end(), static_cast<size_t>(count), kind);
  return {};
}

}  // namespace

Expected<std::vector<std::string>> rank_devices(const EngineOptions& options) {
  if (options.devices.empty()) return std::vector<std::string>{options.device};
  std::vector<std::string> devices;
  if (are_processes(options)) {
    devices.assign(static_cast<size_t>(count_of(options.devices.substr(kProcesses.size()))), options.device);
    if (devices.empty()) return no_device(options.devices, options.devices);
    return devices;
  }
  for (const std::string& item : split(options.devices)) LA_RETURN_IF_ERROR(add_item(item, options.devices, devices));
  if (devices.size() > size_t{kMostRanks})
    return invalid_argument("`devices` " + options.devices + ": " + std::to_string(devices.size()) +
                            " devices; give up to " + std::to_string(kMostRanks));
  return devices;
}

void take_lead_device(EngineOptions& options, const std::vector<std::string>& devices) {
  options.device = devices.front();
  const auto on_host = std::count_if(devices.begin(), devices.end(), std::not_fn(is_card));
  if (on_host < 2 || are_processes(options)) return;
  const int threads = options.threads == 0 ? usable_cpus() : options.threads;
  options.threads = std::max(1, threads / static_cast<int>(on_host));
}

bool are_processes(const EngineOptions& options) { return options.devices.starts_with(kProcesses); }

EngineOptions single_rank(const EngineOptions& options, const std::string& device) {
  EngineOptions one = options;
  one.devices = are_processes(options) ? kOneProcess : "";
  one.device = device;
  one.num_gpus_dit = 0;
  one.ulysses_size = 1;
  one.vae_parallel = false;
  one.step_shares.clear();
  one.decode_threads = 0;
  one.cache_bytes = 0;
  return one;
}

bool on_one_host(const EngineOptions& options, const std::vector<std::string>& devices) {
  return !options.shard_weights && !are_processes(options) && !is_card(devices.front()) &&
         std::all_of(devices.begin(), devices.end(), [&](const auto& d) { return d == devices.front(); });
}

RankPart part_to_load(const EngineOptions& options, int rank, int ranks) {
  const int others = options.vae_parallel ? 1 : 0;
  RankPart part;
  part.lead = rank == 0;
  part.samples = rank >= others;
  if (options.shard_weights && part.samples) part.weights = {rank - others, ranks - others};
  return part;
}

Expected<PlacementRequest> placement_request(const EngineOptions& options) {
  LA_ASSIGN_OR_RETURN(const std::vector<std::string> devices, rank_devices(options));
  PlacementRequest request;
  request.devices = static_cast<int>(devices.size());
  request.num_gpus_dit = options.num_gpus_dit;
  request.ulysses_size = options.ulysses_size;
  request.vae_parallel = options.vae_parallel;
  if (options.step_shares.empty()) return request;
  for (const std::string& item : split(options.step_shares)) {
    const int64_t share = count_of(item);
    if (share == 0)
      return invalid_argument("`step_shares` " + options.step_shares + ": \"" + item +
                              "\" is no number of steps; give one a stage, as 2,1,1");
    request.shares.push_back(share);
  }
  return request;
}

}  // namespace liveavatar
