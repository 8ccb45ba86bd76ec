#include "cli/placement_table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/rank_flags.h"
#include "ops/make_backend.h"
#include "session/rank_devices.h"

namespace liveavatar::cli {
namespace {

long percent(double share) { return std::lround(share * 100); }
double gib(size_t bytes) { return double(bytes) / double(size_t{1} << 30); }

// As `generate` names them; else it is a profile, or nothing.
bool names_devices(const std::string& text) {
  return text.starts_with("cpu") || text.starts_with("cuda") || text.starts_with("reference");
}

// Cards by their names, of a profile.
Status count_cards(const std::string& devices, const EngineOptions& options, DeviceProfile& profile) {
  LA_ASSIGN_OR_RETURN(const std::vector<std::string> names, rank_devices(options));
  if (!std::all_of(names.begin(), names.end(), is_card))
    return invalid_argument("--devices " + devices + ": a profile is of cards; leave --device_profile out");
  if (profile.count > 1)
    return invalid_argument("--devices " + devices + ": they are counted here; give --device_profile " + profile.name);
  profile.count = static_cast<int>(names.size());
  return {};
}

}  // namespace

void add_placement_flags(CLI::App& app, EngineOptions& options, std::string& link, const std::string& group) {
  add_rank_flags(app, options, group);
  app.get_option("--devices")
      ->description(
          "Several: cuda:0,cuda:1 or cpu:2, as for generate; or so many of a card as in 4xrtx4090: also which of\n"
          "them does what, and how fast they are together");
  app.add_option("--link", link, "Between the cards of --devices: pcie, nvlink, 10gbe or 100gbe")
      ->check(CLI::IsMember({"pcie", "nvlink", "10gbe", "100gbe"}))
      ->capture_default_str()
      ->group(group);
}

Expected<PlannedDevices> planned_devices(const CLI::App& app, const std::string& profile, EngineOptions& options,
                                         std::vector<std::string>& notes) {
  PlannedDevices planned;
  const bool of_profile = !options.devices.empty() && !names_devices(options.devices);
  const std::string name = of_profile ? options.devices : profile;
  if (!name.empty()) {
    LA_ASSIGN_OR_RETURN(planned.cards, device_profile(name));
    // A profile plans for a card, whatever this machine has.
    if (app.count("--device") == 0) options.device = "cuda";
    if (!is_card(options.device))
      return invalid_argument("--device " + options.device + ": a profile is of a card; leave --device out");
  }
  if (of_profile) options.devices.clear();
  if (!of_profile) LA_RETURN_IF_ERROR(resolve_rank_flags(app, options, notes));
  if (!planned.cards) return planned;
  const std::string devices = options.devices;
  if (!devices.empty()) LA_RETURN_IF_ERROR(count_cards(devices, options, *planned.cards));
  planned.shards = options.shard_weights;
  LA_ASSIGN_OR_RETURN(PlacementRequest request, placement_request(options));
  request.devices = planned.cards->count;
  const bool asked = request.num_gpus_dit > 0 || request.ulysses_size != 1 || request.vae_parallel ||
                     !request.shares.empty() || !devices.empty();
  if (asked) planned.request = request;
  leave_out_ranks(options);
  return planned;
}

void print_placement(const PlacementReport& report, const DeviceProfile& device) {
  const RankSimulation& s = report.simulation;
  std::printf("\none video on %d x %s, %s between them; predicted, not measured:\n", report.placement.ranks(),
              device.name.c_str(), link_name(report.link));
  std::printf("%.1f frames/s, limited by %s; the first frame after %.2f s, the whole video after %.1f s\n",
              s.steady_frames_per_s, s.limit.text().c_str(), s.first_frame_s, s.seconds);
  std::printf("%-5s %-26s %10s %10s %10s %6s %6s%s\n", "rank", "does", "sampling s", "exchange s", "decoding s", "busy",
              "waits", "  peak GiB  host GiB");
  for (int rank = 0; rank < report.placement.ranks(); ++rank) {
    const RankLoad& load = s.ranks[static_cast<size_t>(rank)];
    const auto own = static_cast<size_t>(rank);
    std::printf("%-5d %-26s %10.3f %10.3f %10.3f %4ld %% %4ld %% %9.3f %9.3f\n", rank,
                report.placement.text(rank).c_str(), load.sampling_s, load.exchange_s, load.condition_s + load.decode_s,
                percent(load.busy_share), percent(load.waiting_share), gib(report.peak_bytes[own]),
                gib(report.host_peak_bytes[own]));
  }
  if (!report.reason.empty()) std::printf("%s\n", report.reason.c_str());
  std::printf("keys and values of a rank are on its card, and weights as far as its memory goes\n");
}

void print_ranks(const PlanReport& report) {
  std::printf("\n%zu ranks; no seconds: nothing is known of these devices' speed%s\n", report.ranks.size(),
              report.ranks.front().device.starts_with("cuda") ? " (--device_profile names a card)" : "");
  std::printf("%-5s %-10s %-26s %9s %9s\n", "rank", "device", "does", "peak GiB", "host GiB");
  for (size_t rank = 0; rank < report.ranks.size(); ++rank) {
    const RankUse& use = report.ranks[rank];
    std::printf("%-5zu %-10s %-26s %9.3f %9.3f%s\n", rank, use.device.c_str(), use.part.c_str(), gib(use.peak_bytes),
                gib(use.host_peak_bytes), use.fits ? "" : "  does not fit");
  }
  if (report.request.one_host)
    std::printf("they share this host's memory: rank 0's is that of all, and the others' is what they add\n");
}

}  // namespace liveavatar::cli
