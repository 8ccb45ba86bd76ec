#include "pipeline/rank_server.h"

#include "core/boundary.h"
#include "pipeline/engine.h"
#include "session/page_server.h"
#include "session/rank_devices.h"

namespace liveavatar {
namespace {

Status serve(const EngineOptions& options, Group& group) {
  group.set_stage("load");
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint,
                      open_checkpoint(single_rank(options, options.device), group.failure_token()));
  const RankPart part = part_to_load(options, group.rank(), group.size());
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Models> models, Models::load(std::move(checkpoint), nullptr, part));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<PageServer> pages, serve_pages(*models, group, part));
  const MemoryLimits limits = limits_of(models->options());
  for (;;) {
    LA_ASSIGN_OR_RETURN(const bool more, serve_video(*models, limits, group));
    if (!more) return {};
  }
}

}  // namespace

Status serve_ranks(const EngineOptions& options, Group& group) {
  const Status served = contained("sample", [&] { return serve(options, group); });
  return served.ok() ? served : fail_ranks(served, group);
}

Status fail_ranks(const Status& why, Group& group) {
  group.abort({why.code(), group.name_of(group.rank()) + ": " + why.message()});
  return group.status();
}

Status end_ranks(Group& group) {
  for (int rank = 1; rank < group.size(); ++rank) LA_RETURN_IF_ERROR(send_end(group, rank));
  return {};
}

}  // namespace liveavatar
