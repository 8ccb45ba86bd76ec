#include "pipeline/local_ranks.h"

#include "core/boundary.h"
#include "parallel/local_group.h"
#include "pipeline/engine.h"
#include "session/rank_devices.h"

namespace liveavatar {
namespace {

// A device of its own.
Expected<std::unique_ptr<Models>> load_rank(const EngineOptions& all, const std::string& device) {
  EngineOptions options = all;
  options.devices.clear();
  options.device = device;
  options.decode_threads = 0;
  options.cache_bytes = 0;
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(options));
  RankPart part;
  part.lead = false;
  return Models::load(std::move(checkpoint), nullptr, part);
}

}  // namespace

Expected<std::unique_ptr<LocalRanks>> LocalRanks::open(Models& lead, const std::vector<std::string>& devices) {
  std::unique_ptr<LocalRanks> ranks(new LocalRanks(devices));
  const bool one_host = on_one_host(devices);
  for (size_t rank = 1; rank < devices.size(); ++rank) {
    Expected<std::unique_ptr<Models>> models =
        one_host ? Models::beside(lead) : load_rank(lead.options(), devices[rank]);
    if (!models.ok()) {
      const Status& why = models.status();
      return Status(why.code(), "rank " + std::to_string(rank) + " (" + devices[rank] + "): " + why.message());
    }
    ranks->models_.push_back(*std::move(models));
  }
  return ranks;
}

Group& LocalRanks::begin() {
  LA_CHECK(threads_.empty());
  groups_ = open_local_groups(devices_);
  try {
    for (size_t i = 0; i < models_.size(); ++i) {
      Models& models = *models_[i];
      Group& group = *groups_[i + 1];
      threads_.emplace_back([&models, &group] {
        const Status served =
            contained("sample", [&] { return serve_video(models, limits_of(models.options()), group); }).status();
        if (!served.ok()) group.abort(served);
      });
    }
  } catch (...) {  // no thread
    groups_.front()->abort(out_of_memory("a rank's thread did not start"));
    end();
    throw;
  }
  return *groups_.front();
}

void LocalRanks::end() { threads_.clear(); }

}  // namespace liveavatar
