#include "pipeline/local_ranks.h"

#include "core/boundary.h"
#include "parallel/local_group.h"
#include "pipeline/engine.h"
#include "session/rank_devices.h"

namespace liveavatar {
namespace {

// On a device of its own.
Expected<std::unique_ptr<Models>> load_rank(const EngineOptions& own, const RankPart& part) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(own));
  return Models::load(std::move(checkpoint), nullptr, part);
}

}  // namespace

Expected<std::unique_ptr<LocalRanks>> LocalRanks::open(Models& lead, const std::vector<std::string>& devices) {
  std::unique_ptr<LocalRanks> ranks(new LocalRanks(devices));
  auto named = [&](size_t rank, const Status& why) {
    return Status(why.code(), "rank " + std::to_string(rank) + " (" + devices[rank] + "): " + why.message());
  };
  const bool one_host = on_one_host(lead.options(), devices);
  std::vector<EngineOptions> options{lead.options()};  // of all, before one of them takes memory
  for (size_t rank = 1; rank < devices.size(); ++rank) {
    Expected<EngineOptions> own = resolve_rank(lead.checkpoint->asked, lead.options(), devices[rank]);
    if (!own.ok()) return named(rank, own.status());
    options.push_back(*std::move(own));
  }
  const int count = static_cast<int>(devices.size());
  for (size_t rank = 1; rank < devices.size(); ++rank) {
    Expected<std::unique_ptr<Models>> models =
        one_host ? Models::beside(lead)
                 : load_rank(options[rank], part_to_load(lead.options(), static_cast<int>(rank), count));
    if (!models.ok()) return named(rank, models.status());
    ranks->models_.push_back(*std::move(models));
  }
  if (lead.options().shard_weights) ranks->connect_shards(lead);
  return ranks;
}

// Any thread reads the shares, which never change.
class LocalRanks::Peers : public PagePeers {
 public:
  explicit Peers(std::vector<const S2vDit*> shares) : shares_(std::move(shares)) {}
  Status read(int64_t owner, size_t page, const PageRange& range, std::byte* target,
              const std::atomic<bool>& stop) override {
    if (stop) return cancelled("stopped on request");
    return shares_[static_cast<size_t>(owner)]->read_page(page, range, target);
  }

 private:
  std::vector<const S2vDit*> shares_;
};

LocalRanks::LocalRanks(const std::vector<std::string>& devices) : devices_(devices) {}
LocalRanks::~LocalRanks() = default;

void LocalRanks::connect_shards(Models& lead) {
  std::vector<S2vDit*> dits;
  if (lead.dit != nullptr) dits.push_back(lead.dit.get());
  for (const auto& models : models_) dits.push_back(models->dit.get());
  peers_ = std::make_unique<Peers>(std::vector<const S2vDit*>(dits.begin(), dits.end()));
  for (S2vDit* dit : dits) dit->set_peers(*peers_);
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
