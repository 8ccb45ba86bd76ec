#include "session/page_server.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/boundary.h"
#include "models/s2v_dit/s2v_dit.h"
#include "session/models.h"

namespace liveavatar {
namespace {

// Of the pages of ShardDit behind the common one.
std::vector<size_t> own_pages(const S2vDit& dit, const Backend& backend, const RankShare& share) {
  std::vector<size_t> bytes;
  for (const PackedPage& page : dit_packed_pages(dit.config(), backend, dit.types())) bytes.push_back(page.span.bytes);
  bytes.erase(bytes.begin());
  const std::vector<int64_t> owners = deal_pages(bytes, share.ranks);
  for (size_t page = 0; page < bytes.size(); ++page)
    if (owners[page] != share.index) bytes[page] = 0;
  return bytes;
}

}  // namespace

Expected<std::unique_ptr<PageServer>> PageServer::open(S2vDit& dit, const Backend& backend, Group& group,
                                                       const RankShare& share, int first_rank, Budget& host) {
  std::unique_ptr<PageServer> server(new PageServer(dit, group, share, first_rank));
  LA_ASSIGN_OR_RETURN(server->piece_, Buffer::allocate(host, MemoryCategory::kWeights, kPagePieceBytes));
  server->own_bytes_ = own_pages(dit, backend, share);
  server->thread_ = std::thread([s = server.get()] {
    const Status served = contained("weights for other ranks", [&] { return s->serve(); });
    if (!served.ok()) s->group_.abort({served.code(), s->group_.name_of(s->group_.rank()) + ": " + served.message()});
  });
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

Status PageServer::serve() {
  constexpr auto kPause = std::chrono::microseconds(100);
  while (!stop_) {
    bool idle = true;
    for (int64_t other = 0; other < share_.ranks; ++other) {
      if (other == share_.index) continue;
      const int rank = first_rank_ + static_cast<int>(other);
      LA_ASSIGN_OR_RETURN(const bool asks, group_.arrived(rank, Tag::kWeights));
      if (!asks) continue;
      idle = false;
      LA_RETURN_IF_ERROR(answer(rank));
    }
    if (idle) std::this_thread::sleep_for(kPause);
  }
  return {};
}

Expected<std::unique_ptr<PageServer>> serve_pages(Models& models, Group& group, const RankPart& part) {
  if (part.weights.whole() || !part.samples) return std::unique_ptr<PageServer>();
  const int first_rank = group.rank() - static_cast<int>(part.weights.index);
  return PageServer::open(*models.dit, *models.backend, group, part.weights, first_rank, models.budget->host());
}

Status PageServer::answer(int rank) {
  Request request;
  LA_RETURN_IF_ERROR(group_.receive(rank, Tag::kWeights, std::as_writable_bytes(std::span(&request, 1))));
  const size_t bytes = request.page < own_bytes_.size() ? own_bytes_[request.page] : 0;
  const bool is_there = request.begin < bytes && request.bytes <= bytes - request.begin;
  if (!is_there || request.bytes > piece_.bytes())
    return corrupt(group_.name_of(rank) +
                   " asks for weights that are not here; start all ranks with the same program, flags and files");
  LA_RETURN_IF_ERROR(dit_.read_page(request.page, {request.begin, request.bytes}, piece_.data()));
  return group_.send(rank, Tag::kPage, {piece_.data(), request.bytes});
}

}  // namespace liveavatar
