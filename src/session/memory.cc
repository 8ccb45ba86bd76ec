#include "session/memory.h"

#include "media/fit.h"
#include "media/mask_image.h"
#include "media/pose_video.h"
#include "session/snapshot_file.h"

namespace liveavatar {

size_t video_writer_bytes(int64_t height, int64_t width) {
  constexpr size_t kFixedBytes = size_t{13} << 20, kBytesPerPixel = 52;
  return kFixedBytes + kBytesPerPixel * static_cast<size_t>(height * width);
}

size_t snapshot_run_bytes(bool beside_card) {
  constexpr size_t kFixedBytes = size_t{5} << 20;  // holes of the heap grow for the first hour of a run
  return kFixedBytes + (beside_card ? SnapshotWriter::kPartBytes : 0);
}

namespace {

// The caches, and the audio tokens of the blocks in flight, in this order. Paged KV caches have memory of their own.
DitCaches allocate_caches(const JobShape& s, const DitTypes& types, Arena& arena,
                          std::vector<AudioTokens>& audio_tokens) {
  const DitConfig& config = s.shapes.dit;
  const DitGeometry geometry = s.geometry();
  DitCaches caches(config, geometry, {s.own_steps().count, s.kv_caches_paged()}, 0, types, arena);
  for (int64_t i = 0; i < s.blocks_in_flight() * s.actors(); ++i)
    audio_tokens.emplace_back(config, geometry, types.values, arena);
  return caches;
}

}  // namespace

Expected<SamplerMemory> SamplerMemory::allocate(const JobShape& s, const std::string& kv_cache_folder, Backend& backend,
                                                Budget& budget) {
  SamplerMemory memory;
  const DitConfig& config = s.shapes.dit;
  const DitGeometry geometry = s.geometry();
  const DitTypes types = s.types();
  LA_RETURN_IF_ERROR(backend.reserve(largest_ops(config, geometry, types)));
  Arena cache_size, activation_size;
  std::vector<AudioTokens> measured;
  allocate_caches(s, types, cache_size, measured);
  DitActivations(config, geometry, types.values, activation_size, s.load());
  LA_ASSIGN_OR_RETURN(memory.cache_arena, Arena::allocate(budget, MemoryCategory::kKvCache, cache_size.used_bytes()));
  LA_ASSIGN_OR_RETURN(memory.activation_arena,
                      Arena::allocate(budget, MemoryCategory::kActivations, activation_size.used_bytes()));
  DitCaches caches = allocate_caches(s, types, memory.cache_arena, memory.audio_tokens);
  if (s.kv_caches_paged()) {
    LA_ASSIGN_OR_RETURN(memory.kv_cache_pages, allocate_kv_cache_pages(s.kv_caches(), budget));
    if (!budget.dry_run()) {
      LA_ASSIGN_OR_RETURN(
          caches.kv, PagedKvCaches::open(s.kv_caches(), kv_cache_folder, std::move(memory.kv_cache_pages), backend));
    }
  }
  DitActivations activations(config, geometry, types.values, memory.activation_arena, s.load());
  memory.session = std::make_unique<DitSession>(geometry, std::move(caches), std::move(activations));
  Shape block{config.channels, kBlockLatents, geometry.latent_height, geometry.latent_width};
  LA_ASSIGN_OR_RETURN(memory.velocity, OwnedTensor::allocate(budget, MemoryCategory::kActivations, block, DType::kF32));
  if (s.solver_tensors == 0) return memory;
  Shape kept{s.blocks_in_flight() * s.solver_tensors, block[0], block[1], block[2], block[3]};
  LA_ASSIGN_OR_RETURN(memory.solver_history,
                      OwnedTensor::allocate(budget.host(), MemoryCategory::kActivations, kept, DType::kF32));
  return memory;
}

Expected<DecoderMemory> DecoderMemory::allocate(int64_t channels, int64_t latent_height, int64_t latent_width,
                                                Budget& budget) {
  DecoderMemory memory;
  Shape latent{channels, 1, latent_height, latent_width},
      frames{kVaeFrames, latent_height * kVaePixels, latent_width * kVaePixels, 3};
  LA_ASSIGN_OR_RETURN(memory.latent, OwnedTensor::allocate(budget, MemoryCategory::kVae, latent, DType::kF32));
  LA_ASSIGN_OR_RETURN(memory.pixels, OwnedTensor::allocate(budget, MemoryCategory::kVae, frames, DType::kF32));
  LA_ASSIGN_OR_RETURN(memory.rgb, OwnedTensor::allocate(budget, MemoryCategory::kMedia, frames, DType::kU8));
  if (budget.device().is_host()) return memory;
  LA_ASSIGN_OR_RETURN(memory.host_rgb,
                      OwnedTensor::allocate(budget.host(), MemoryCategory::kMedia, frames, DType::kU8));
  return memory;
}

Expected<PoseMemory> PoseMemory::allocate(const PoseShape& s, int64_t channels, Budget& budget) {
  PoseMemory memory;
  size_t video_bytes =
      pose_video_bytes(s.video_height, s.video_width) + fit_float_bytes(s.video_height, s.video_width, s.size, s.fit);
  LA_ASSIGN_OR_RETURN(memory.video, Charge::acquire(budget.host(), MemoryCategory::kMedia, video_bytes));
  auto allocate = [&](Shape shape) { return OwnedTensor::allocate(budget, MemoryCategory::kVae, shape, DType::kF32); };
  LA_ASSIGN_OR_RETURN(memory.frame, allocate({3, s.size.height, s.size.width}));
  LA_ASSIGN_OR_RETURN(memory.pixels, allocate({3, kVaeFrames, s.size.height, s.size.width}));
  LA_ASSIGN_OR_RETURN(memory.latent, allocate({channels, 1, s.size.height / kVaePixels, s.size.width / kVaePixels}));
  return memory;
}

namespace {

// A dry run charges them at once: a plan may have more blocks than there is memory for their tensors.
Status keep_latents(const Shape& block, int64_t kept, Budget& budget, BlockMemory& memory) {
  if (budget.dry_run()) {
    const size_t bytes =
        budget.allocator().taken_bytes(static_cast<size_t>(block.elements()) * dtype_bytes(DType::kF32));
    LA_ASSIGN_OR_RETURN(memory.measured_latents,
                        Charge::acquire(budget, MemoryCategory::kConditioning, static_cast<size_t>(kept) * bytes));
    return {};
  }
  for (int64_t i = 0; i < kept; ++i) {
    LA_ASSIGN_OR_RETURN(OwnedTensor latents,
                        OwnedTensor::allocate(budget, MemoryCategory::kConditioning, block, DType::kF32));
    memory.latents.push_back(std::move(latents));
  }
  return {};
}

}  // namespace

Expected<BlockMemory> BlockMemory::allocate(const JobShape& s, Budget& budget) {
  BlockMemory memory;
  const DitConfig& c = s.shapes.dit;
  const DitGeometry g = s.geometry();
  const int64_t in_flight = s.blocks_in_flight(), actors = s.actors();
  Shape one{c.channels, 1, g.latent_height, g.latent_width};
  Shape block{c.channels, g.block_latents, g.latent_height, g.latent_width};
  LA_ASSIGN_OR_RETURN(memory.reference, OwnedTensor::allocate(budget, MemoryCategory::kConditioning, one, DType::kF32));
  LA_RETURN_IF_ERROR(keep_latents(block, s.blocks_kept(), budget, memory));
  Shape features{actors, c.audio_layers, c.audio_dim, kBlockFrames};
  LA_ASSIGN_OR_RETURN(memory.features,
                      OwnedTensor::allocate(budget.host(), MemoryCategory::kAudio, features, DType::kF32));
  const int64_t poses = s.pose.empty() ? 0 : in_flight;
  for (int64_t i = 0; i < poses; ++i) {
    LA_ASSIGN_OR_RETURN(OwnedTensor pose,
                        OwnedTensor::allocate(budget, MemoryCategory::kConditioning, block, DType::kF32));
    memory.poses.push_back(std::move(pose));
  }
  if (actors == 1) return memory;
  Shape masks{actors, g.block_latents, g.rows(), g.columns()};
  for (int64_t i = 0; i < in_flight; ++i) {
    LA_ASSIGN_OR_RETURN(OwnedTensor mask,
                        OwnedTensor::allocate(budget, MemoryCategory::kConditioning, masks, DType::kF32));
    memory.masks.push_back(std::move(mask));
  }
  LA_ASSIGN_OR_RETURN(memory.mask_image,
                      Charge::acquire(budget.host(), MemoryCategory::kMedia, mask_bytes(s.mask_pixels)));
  return memory;
}

BlockStart BlockMemory::start(int64_t block) const {
  auto place = [block](const std::vector<OwnedTensor>& places) {
    return places.empty() ? Tensor() : places[static_cast<size_t>(block) % places.size()].tensor;
  };
  return {features.tensor, place(latents), place(masks), place(poses)};
}

namespace {

// A block's message: five numbers, and the parts of a BlockStart.
size_t block_message_bytes(const JobShape& s) {
  const DitConfig& c = s.shapes.dit;
  const DitGeometry g = s.geometry();
  const int64_t block = c.channels * g.block_latents * g.latent_height * g.latent_width;
  int64_t values = s.actors() * c.audio_layers * c.audio_dim * kBlockFrames + block;
  if (!s.pose.empty()) values += block;
  if (s.actors() > 1) values += s.actors() * g.block_tokens();
  return 5 * sizeof(int64_t) + static_cast<size_t>(values) * dtype_bytes(DType::kF32);
}

}  // namespace

Expected<LinkMemory> LinkMemory::allocate(const JobShape& s, Budget& budget) {
  LinkMemory memory;
  const RankPart& rank = s.rank;
  if (rank.alone()) return memory;
  auto buffer = [&](size_t bytes) { return Buffer::allocate(budget.host(), MemoryCategory::kConditioning, bytes); };
  const size_t message_bytes = block_message_bytes(s);
  auto add = [&](std::vector<Buffer>& to, int64_t count) -> Status {
    for (int64_t i = 0; i < count; ++i) {
      LA_ASSIGN_OR_RETURN(Buffer one, buffer(message_bytes));
      to.push_back(std::move(one));
    }
    return {};
  };
  if (rank.samples && !rank.ends) LA_RETURN_IF_ERROR(add(memory.outboxes, s.blocks_in_flight() + 1));
  const bool starts_others = rank.lead && (!rank.samples || !rank.share.whole());
  if (starts_others) LA_RETURN_IF_ERROR(add(memory.starts, 1));
  if (!rank.lead) {
    LA_ASSIGN_OR_RETURN(memory.inbox, buffer(message_bytes));
  }
  const bool from_others = rank.lead && !rank.ends;
  const bool to_lead = !rank.lead && rank.ends && rank.share.index == 0;
  const DitGeometry g = s.geometry();
  const Shape block{s.shapes.dit.channels, g.block_latents, g.latent_height, g.latent_width};
  const size_t block_bytes = static_cast<size_t>(block.elements()) * dtype_bytes(DType::kF32);
  if (from_others || to_lead) {
    LA_ASSIGN_OR_RETURN(memory.finished_host, buffer(block_bytes));
  }
  if (!from_others) return memory;
  LA_ASSIGN_OR_RETURN(memory.finished,
                      OwnedTensor::allocate(budget, MemoryCategory::kConditioning, block, DType::kF32));
  return memory;
}

}  // namespace liveavatar
