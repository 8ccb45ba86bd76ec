#include "exchange_bench.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "core/memory.h"
#include "core/threads.h"
#include "models/s2v_dit/head_exchange.h"
#include "ops/make_backend.h"
#include "parallel/local_group.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRanks = 2;

double bytes_of(const JobShape& s, const DitGeometry& g) {
  return 4 * double(g.block_tokens() * s.shapes.dit.dim) * double(dtype_bytes(s.types().values));
}

// One rank: the exchanges of a layer, again and again.
class ExchangingRank {
 public:
  ExchangingRank(const JobShape& s, DitGeometry g, Group& group)
      : backend_(*make_backend("cpu", {.threads = 1})), layout_(g.block_layout()) {
    g.share = {group.rank(), kRanks};
    Arena sizes;
    allocate(s, g, sizes);
    arena_ = *Arena::allocate(budget_, MemoryCategory::kActivations, sizes.used_bytes());
    exchange_ = std::make_unique<HeadExchange>(group, *backend_, g.share,
                                               HeadExchange::Memory{s.shapes.dit.heads, allocate(s, g, arena_)});
  }
  void run(int layers) {
    const Tensor from[] = {tokens_, tokens_, tokens_};
    for (int i = 0; i < layers; ++i) {
      exchange_->to_heads(layout_, from, heads_);
      exchange_->to_tokens(layout_, heads_[0], tokens_);
    }
  }

 private:
  ExchangeBuffers allocate(const JobShape& s, const DitGeometry& g, Arena& arena) {
    const DType dtype = s.types().values;
    const DitConfig& c = s.shapes.dit;
    tokens_ = arena.tensor({g.own_block_tokens(), c.dim}, dtype);
    for (Tensor& t : heads_) t = arena.tensor({g.block_tokens(), c.of_own_heads(g.share).dim}, dtype);
    return ExchangeBuffers(c, g, dtype, arena);
  }

  Budget budget_;
  std::unique_ptr<Backend> backend_;
  TokenLayout layout_;
  Arena arena_;
  Tensor tokens_, heads_[3];
  std::unique_ptr<HeadExchange> exchange_;
};

double layer_s(const JobShape& s, const DitGeometry& g) {
  constexpr int kLayers = 2000;
  auto groups = open_local_groups({"cpu", "cpu"});
  ExchangingRank lead(s, g, *groups[0]);
  std::jthread other([&] { ExchangingRank(s, g, *groups[1]).run(1 + kLayers); });
  lead.run(1);  // both are there
  const Clock::time_point began = Clock::now();
  lead.run(kLayers);
  return std::chrono::duration<double>(Clock::now() - began).count() / kLayers;
}

}  // namespace

double exchanged_bytes(const JobShape& s) { return bytes_of(s, s.geometry()); }

Link measure_exchange(const JobShape& s) {
  const DitGeometry whole = s.geometry();
  DitGeometry few = whole;
  few.latent_height = few.latent_width = 4;
  const double few_s = layer_s(s, few), whole_s = layer_s(s, whole);
  // Half of what both have is the other's, and half of that is sent by each.
  const double sent = (bytes_of(s, whole) - bytes_of(s, few)) / 4;
  return {sent / std::max(1e-9, whole_s - few_s), few_s / 2};
}

}  // namespace liveavatar
