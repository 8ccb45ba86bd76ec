#include "session/page_server.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "models/s2v_dit/s2v_dit.h"
#include "session/models.h"

namespace liveavatar {
Expected<std::unique_ptr<PageServer>> PageServer::open(S2vDit& dit, Group& group, const RankShare& share,
                                                       int first_rank, Budget& host) {
  std::unique_ptr<PageServer> server(new PageServer(dit, group, share, first_rank));
  LA_ASSIGN_OR_RETURN(server->piece_, Buffer::allocate(host, MemoryCategory::kWeights, kPagePieceBytes));
  server->thread_ = std::thread([s = server.get()] { s->serve(); });
  dit.set_peers(*server);
  return server;
}

PageServer::~PageServer() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

Status PageServer::read(int64_t owner, size_t page, const PageRange& range, std::byte* target,
                        const std::atomic<bool>& stop) {
  const int rank = first_rank_ + static_cast<int>(owner);
  for (size_t done = 0; done < range.bytes; done += kPagePieceBytes) {
    if (stop) return cancelled("stopped on request");
    const size_t bytes = std::min(kPagePieceBytes, range.bytes - done);
    const Request request{page, range.begin + done, bytes};
    LA_RETURN_IF_ERROR(group_.send(rank, Tag::kWeights, std::as_bytes(std::span(&request, 1))));
    LA_RETURN_IF_ERROR(group_.receive(rank, Tag::kPage, {target + done, bytes}));
  }
  return {};
}

void PageServer::serve() {
  constexpr auto kPause = std::chrono::microseconds(100);
  while (!stop_) {
    bool idle = true;
    for (int64_t other = 0; other < share_.ranks; ++other) {
      if (other == share_.index) continue;
      const int rank = first_rank_ + static_cast<int>(other);
      const Expected<bool> asks = group_.arrived(rank, Tag::kWeights);
      if (!asks.ok()) return;  // the group failed: everybody knows
      if (!*asks) continue;
      idle = false;
      if (const Status answered = answer(rank); !answered.ok()) return group_.abort(answered);
    }
    if (idle) std::this_thread::sleep_for(kPause);
  }
}

Expected<std::unique_ptr<PageServer>> serve_pages(Models& models, Group& group, const RankPart& part) {
  if (part.weights.whole() || !part.samples) return std::unique_ptr<PageServer>();
  const int first_rank = group.rank() - static_cast<int>(part.weights.index);
  return PageServer::open(*models.dit, group, part.weights, first_rank, models.budget->host());
}

Status PageServer::answer(int rank) {
  Request request;
  LA_RETURN_IF_ERROR(group_.receive(rank, Tag::kWeights, std::as_writable_bytes(std::span(&request, 1))));
  if (request.bytes > piece_.bytes()) return corrupt(group_.name_of(rank) + " asks for more weights than there are");
  LA_RETURN_IF_ERROR(dit_.read_page(request.page, {request.begin, request.bytes}, piece_.data()));
  return group_.send(rank, Tag::kPage, {piece_.data(), request.bytes});
}

}  // namespace liveavatar
