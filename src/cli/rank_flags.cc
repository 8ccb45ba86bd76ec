#include "cli/rank_flags.h"

#include <algorithm>

#include "core/status.h"
#include "ops/make_backend.h"
#include "session/rank_devices.h"

namespace liveavatar::cli {

void add_rank_flags(CLI::App& app, EngineOptions& options, const std::string& group) {
  app.add_option("--devices", options.devices,
                 "Several devices make the video together: cuda:0,cuda:1, or cpu:2 (half of the threads each), or\n"
                 "cpu,cuda:0. The first is the lead: it reads the inputs, has the VAE and writes the video")
      ->group(group);
  app.add_option("--num_gpus_dit", options.num_gpus_dit,
                 "How many of --devices sample: the denoising steps are dealt to them (default: all that can)")
      ->group(group);
  app.add_option("--ulysses_size", options.ulysses_size,
                 "How many of these share each of their steps, some tokens and heads each")
      ->capture_default_str()
      ->group(group);
  app.add_flag("--enable_vae_parallel", options.vae_parallel,
               "The first device samples nothing: it decodes while the others sample")
      ->group(group);
  app.add_flag("--dit_fsdp", options.shard_weights,
               "The video model's layers are dealt to the devices that sample and read from each other when they are\n"
               "needed: each holds its share and two groups of weights more. Budgets are of each device then")
      ->group(group);
  app.add_option("--step_shares", options.step_shares,
                 "How many steps each of --num_gpus_dit / --ulysses_size groups takes, as 2,1,1 (default: as balances)")
      ->group(group);
}

// "--num_gpus_dit 4, --enable_vae_parallel"
std::string given_rank_flags(const CLI::App& app) {
  std::string text;
  for (const char* flag :
       {"--num_gpus_dit", "--ulysses_size", "--step_shares", "--enable_vae_parallel", "--dit_fsdp"}) {
    const CLI::Option* option = app.get_option(flag);
    if (option->count() == 0) continue;
    text += (text.empty() ? "" : ", ") + std::string(flag);
    if (option->get_expected_min() > 0) text += " " + option->as<std::string>();
  }
  return text;
}

void leave_out_ranks(EngineOptions& options) {
  options.devices.clear();
  options.num_gpus_dit = 0;
  options.ulysses_size = 1;
  options.vae_parallel = false;
  options.step_shares.clear();
  options.shard_weights = false;
}

namespace {

Status check_counts(const EngineOptions& options) {
  auto check = [](const char* flag, int value, int least) -> Status {
    if (value >= least && value <= kMostRanks) return {};
    return invalid_argument(std::string(flag) + " " + std::to_string(value) + ": choose 1 to " +
                            std::to_string(kMostRanks));
  };
  LA_RETURN_IF_ERROR(check("--num_gpus_dit", options.num_gpus_dit, 0));
  return check("--ulysses_size", options.ulysses_size, 1);
}

}  // namespace

Status resolve_rank_flags(const CLI::App& app, EngineOptions& options, std::vector<std::string>& notes) {
  LA_RETURN_IF_ERROR(check_counts(options));
  if (are_processes(options)) {
    if (app.count("--devices") == 0) return {};
    return invalid_argument("--devices " + options.devices + ": start processes with mpirun, and leave --devices out");
  }
  if (!options.devices.empty()) {
    if (app.count("--device") > 0) return invalid_argument("--device with --devices: give one of the two");
    LA_ASSIGN_OR_RETURN(const std::vector<std::string> devices, rank_devices(options));
    options.device = devices.front();
    return {};
  }
  const std::string given = given_rank_flags(app);
  if (given.empty()) return {};
  const int sampling = std::max({options.num_gpus_dit, options.ulysses_size, 1});
  const int devices = sampling + (options.vae_parallel ? 1 : 0);
  if (const std::optional<int> card = card_index(options.device); card && devices > 1) {
    for (int i = 0; i < devices; ++i) options.devices += (i > 0 ? ",cuda:" : "cuda:") + std::to_string(*card + i);
    notes.push_back(given + ": on --devices " + options.devices);
    return {};
  }
  leave_out_ranks(options);
  const std::string split = "; give --devices, as --devices cpu:" + std::to_string(devices) + ", to split the work";
  notes.push_back(given + ": one device computes" + (devices > 1 ? split : ""));
  return {};
}

}  // namespace liveavatar::cli
