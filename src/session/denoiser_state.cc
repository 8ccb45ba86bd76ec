// What of a denoiser a snapshot has: keys and values of the blocks before, and the blocks in flight.
#include <algorithm>

#include "session/denoiser.h"

namespace liveavatar {
namespace {

std::string numbered(const char* what, int64_t a, int64_t b, int64_t c = -1) {
  std::string name = std::string(what) + "." + std::to_string(a) + "." + std::to_string(b);
  return c < 0 ? name : name + "." + std::to_string(c);
}

Status visit_rows(const KeyValues& rows, const std::string& name, StateVisitor& visitor) {
  LA_RETURN_IF_ERROR(visitor.visit(name + ".k", rows.k));
  LA_RETURN_IF_ERROR(visitor.visit(name + ".v", rows.v));
  if (rows.k_scale.empty()) return {};
  LA_RETURN_IF_ERROR(visitor.visit(name + ".ks", rows.k_scale));
  return visitor.visit(name + ".vs", rows.v_scale);
}

}  // namespace

Status Denoiser::visit_state(const Moment& moment, const BlockMemory& memory, StateVisitor& visitor) {
  LA_RETURN_IF_ERROR(visit_keys(moment, visitor));
  return visit_in_flight(moment, memory, visitor);
}

// Of each step its own blocks, without the slot that its next block overwrites.
Status Denoiser::visit_keys(const Moment& moment, StateVisitor& visitor) {
  DitSession& session = *memory_.session;
  KvCaches& kv = *session.caches.kv;
  const DitGeometry& g = session.geometry;
  const int64_t slots = g.clip_latents / g.block_latents, layers = dit_.config().layers;
  std::vector<KvCacheKey> uses;
  for (int64_t layer = 0; layer < layers; ++layer)
    for (int64_t step = 0; step < steps_.count; ++step) uses.push_back({step, layer});
  kv.expect(uses);
  for (const KvCacheKey& key : uses) {
    const int64_t blocks = moment.blocks.first + schedule_.done(moment.begun, key.step);
    const KvCaches::Filled has{std::min(blocks, slots), blocks % slots};
    session.caches.filled_latents[static_cast<size_t>(key.step)] = has.filled * g.block_latents;
    if (has.filled == 0) continue;
    const KeyValues cache = kv.acquire(key);
    Status status = kv.status();
    for (int64_t slot = 0; slot < has.filled && status.ok(); ++slot) {
      if (has.filled == slots && slot == has.next) continue;
      const KeyValues rows = cache.slice(slot * g.block_tokens(), g.block_tokens());
      status = visit_rows(rows, numbered("kv", key.step, key.layer, slot), visitor);
    }
    if (visitor.gives_back()) {
      kv.release_filled(key, has, backend_.record());
    } else {
      kv.release_unchanged(key, backend_.record());
    }
    LA_RETURN_IF_ERROR(status);
  }
  return kv.status();
}

Status Denoiser::visit_in_flight(const Moment& moment, const BlockMemory& memory, StateVisitor& visitor) {
  const size_t actors = memory_.audio_tokens.size() / blocks_.size(), kept = history_.size() / blocks_.size();
  for (int64_t b = sent(moment.begun); b < moment.begun; ++b) {
    const int64_t block = moment.blocks.first + b;
    const auto slot = static_cast<size_t>(b % schedule_.in_flight);
    const BlockStart start = memory.start(block);
    blocks_[slot] = start;
    LA_RETURN_IF_ERROR(visitor.visit(numbered("latents", block, 0), start.latents));
    if (!start.pose.empty()) LA_RETURN_IF_ERROR(visitor.visit(numbered("pose", block, 0), start.pose));
    if (!start.actor_masks.empty()) LA_RETURN_IF_ERROR(visitor.visit(numbered("masks", block, 0), start.actor_masks));
    for (size_t a = 0; a < actors; ++a) {
      AudioTokens& audio = memory_.audio_tokens[slot * actors + a];
      LA_RETURN_IF_ERROR(visitor.visit(numbered("audio.global", block, int64_t(a)), audio.global));
      LA_RETURN_IF_ERROR(visitor.visit(numbered("audio.local", block, int64_t(a)), audio.local));
      if (visitor.gives_back()) std::fill(audio.ready.begin(), audio.ready.end(), 0);
    }
    for (size_t i = 0; i < kept; ++i)
      LA_RETURN_IF_ERROR(visitor.visit(numbered("solver", block, int64_t(i)), history_[slot * kept + i]));
  }
  return {};
}

}  // namespace liveavatar
