#include "cli/placement_table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace liveavatar::cli {
namespace {

constexpr const char *kSampling = "--num_gpus_dit", *kMembers = "--ulysses_size", *kVae = "--enable_vae_parallel",
                     *kShards = "--dit_fsdp";

int number_of(const CLI::App& app, const char* flag, int absent) {
  const CLI::Option* option = app.get_option(flag);
  if (option->count() == 0) return absent;
  constexpr int64_t kMost = 1'000'000;  // beyond every number of devices
  return static_cast<int>(std::clamp<int64_t>(option->as<int64_t>(), -1, kMost));
}

long percent(double share) { return std::lround(share * 100); }

}  // namespace

void add_placement_flags(CLI::App& app, std::string& link, const std::string& group) {
  app.add_option("--link", link, "Between the devices of --devices: pcie, nvlink, 10gbe or 100gbe")
      ->check(CLI::IsMember({"pcie", "nvlink", "10gbe", "100gbe"}))
      ->capture_default_str()
      ->group(group);
  auto add_number = [&](const char* flag, const char* what) {
    app.add_option(flag)->description(what)->check(CLI::TypeValidator<int64_t>("INT"))->group(group);
  };
  add_number(kSampling, "With --devices: so many of them sample. None of these three: the fastest placement");
  add_number(kMembers, "With --devices: so many share each step");
  app.add_flag(kShards)->description("With --devices: the weights are dealt to them")->group(group);
  app.add_flag(kVae)->description("With --devices: one has the VAE alone")->group(group);
}

bool asks_for_shards(const CLI::App& app) { return app.count(kShards) > 0; }

std::optional<PlacementRequest> asked_request(const CLI::App& app, int devices) {
  if (app.count(kSampling) + app.count(kMembers) + app.count(kVae) == 0) return std::nullopt;
  PlacementRequest request;
  request.devices = devices;
  request.num_gpus_dit = number_of(app, kSampling, 0);
  request.ulysses_size = number_of(app, kMembers, 1);
  request.vae_parallel = app.count(kVae) > 0;
  return request;
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
    const auto gib = [rank](const std::vector<size_t>& bytes) {
      return double(bytes[static_cast<size_t>(rank)]) / double(size_t{1} << 30);
    };
    std::printf("%-5d %-26s %10.3f %10.3f %10.3f %4ld %% %4ld %% %9.3f %9.3f\n", rank,
                report.placement.text(rank).c_str(), load.sampling_s, load.exchange_s, load.condition_s + load.decode_s,
                percent(load.busy_share), percent(load.waiting_share), gib(report.peak_bytes),
                gib(report.host_peak_bytes));
  }
  if (!report.reason.empty()) std::printf("%s\n", report.reason.c_str());
  std::printf(
      "keys and values of a rank are on its card, and weights as far as its memory goes; the table above is of\n"
      "one device that makes the whole video\n");
}

}  // namespace liveavatar::cli
