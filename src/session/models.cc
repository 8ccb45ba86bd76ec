#include "session/models.h"

#include <limits>

#include "core/program_memory.h"
#include "models/umt5/tokenizer.h"
#include "models/umt5/umt5.h"
#include "ops/make_backend.h"
#include "ops/transfer.h"
#include "session/memory.h"
#include "session/page_server.h"
#include "session/rank_devices.h"

namespace liveavatar {
namespace {

Status check_audio(const Checkpoint& c) {
  const Wav2Vec2Config& audio = c.shapes.audio;
  const DitConfig& dit = c.shapes.dit;
  if (audio.layers + 1 == dit.audio_layers && audio.width == dit.audio_dim) return {};
  return corrupt(c.paths.audio_encoder + ": gives " + std::to_string(audio.layers + 1) + " states of width " +
                 std::to_string(audio.width) + ", " + (c.dit == nullptr ? c.options.packed_dit : c.paths.dit) +
                 " wants " + std::to_string(dit.audio_layers) + " of " + std::to_string(dit.audio_dim) +
                 "; these files belong to different checkpoints");
}

size_t program_bytes(const EngineOptions& options) {
  return kProgramBytes + loaded_library_bytes() + (are_processes(options) ? kMpiBytes : 0);
}

}  // namespace

Expected<std::unique_ptr<Models>> Models::load(std::unique_ptr<Checkpoint> checkpoint, DeviceSource* device,
                                               const RankPart& rank) {
  auto models = std::make_unique<Models>();
  models->checkpoint = std::move(checkpoint);
  Checkpoint& c = *models->checkpoint;
  LA_RETURN_IF_ERROR(check_audio(c));
  models->types = c.shape().types();
  LA_RETURN_IF_ERROR(models->open_device(device, false));
  models->dit_share = rank.weights;
  if (rank.samples) LA_RETURN_IF_ERROR(models->load_dit(rank.weights));
  c.dit.reset();
  if (!rank.lead) return models;
  const DType values = models->types.values;
  Budget& budget = *models->budget;
  LA_ASSIGN_OR_RETURN(models->vae, WanVae::load(*c.vae, *models->backend, budget, values));
  c.vae.reset();
  LA_ASSIGN_OR_RETURN(models->audio,
                      Wav2Vec2::load(c.shapes.audio, *c.audio, models->text_backend(), budget.host(), values));
  c.audio.reset();
  if (c.options.cache_bytes == 0) return models;
  auto cache = ConditionCache::open(budget.host(), c.options.cache_bytes);
  if (!cache.ok())
    return out_of_memory("`cache_bytes`: " + cache.status().message() + "; take less, or raise the budget");
  models->cache = *std::move(cache);
  return models;
}

Expected<std::unique_ptr<Models>> Models::beside(Models& lead) {
  LA_CHECK(lead.card == nullptr && lead.host_backend == nullptr);
  auto models = std::make_unique<Models>();
  models->checkpoint = std::make_unique<Checkpoint>();
  models->checkpoint->options = lead.options();
  models->checkpoint->options.decode_threads = 0;
  models->checkpoint->shapes = lead.shapes();
  models->checkpoint->merge_bytes = lead.checkpoint->merge_bytes;
  models->types = lead.types;
  LA_ASSIGN_OR_RETURN(models->budget, Budget::open_within(*lead.budget, Budget::kUnlimited));
  const BackendOptions how{
      .threads = lead.options().threads, .int8_products = lead.options().int8_products, .budget = models->budget.get()};
  LA_ASSIGN_OR_RETURN(models->backend, make_backend(lead.options().device, how));
  models->dit = lead.dit->beside(*models->backend);
  return models;
}

Expected<std::unique_ptr<Models>> Models::dry_run(const JobShape& s) {
  auto models = std::make_unique<Models>();
  models->checkpoint = std::make_unique<Checkpoint>();
  models->checkpoint->shapes = s.shapes;
  models->types = s.types();
  EngineOptions& options = models->checkpoint->options;
  options.device = s.device;
  options.threads = s.threads;
  options.decode_threads = s.decode_threads;
  options.decode_beside = s.decode_beside;
  options.int8_products = s.int8_products;
  options.tune = s.tune;
  if (s.processes) options.devices = kOneProcess;
  LA_RETURN_IF_ERROR(models->open_device(nullptr, true));
  if (s.has_video_model()) LA_RETURN_IF_ERROR(models->dry_run_dit(s));
  if (s.video_model_only) return models;
  Budget& budget = *models->budget;
  const DType values = models->types.values;
  LA_ASSIGN_OR_RETURN(models->vae, WanVae::dry_run(s.shapes.vae, *models->backend, budget, values));
  LA_ASSIGN_OR_RETURN(models->audio, Wav2Vec2::dry_run(s.shapes.audio, models->text_backend(), budget.host(), values));
  LA_ASSIGN_OR_RETURN(models->planned_cache,
                      Charge::acquire(budget.host(), MemoryCategory::kConditioning, s.cache_bytes));
  return models;
}

Status Models::dry_run_dit(const JobShape& s) {
  if (!s.shard().whole()) {
    WeightSizer sizer(*backend, *budget, MemoryCategory::kWeights, types, s.merge_bytes);
    LA_ASSIGN_OR_RETURN(dit, S2vDit::load_shard(s.shapes.dit, types, s.shard(), sizer, *backend, *budget));
    if (!s.processes) return {};
    LA_ASSIGN_OR_RETURN(planned_pages, Charge::acquire(budget->host(), MemoryCategory::kWeights, kPagePieceBytes));
    return {};
  }
  if (!s.packed) {
    LA_ASSIGN_OR_RETURN(dit, S2vDit::dry_run(s.shapes.dit, *backend, *budget, types, s.merge_bytes));
    return {};
  }
  if (s.layers_in_host) {
    WeightSizer sizer(*backend, *budget, MemoryCategory::kWeights, types, s.merge_bytes);
    LA_ASSIGN_OR_RETURN(dit, S2vDit::load_beside(s.shapes.dit, types, sizer, *backend, *budget));
    return {};
  }
  PackedDit packed = PackedDit::planned(s.shapes.dit, *backend, types);
  if (s.pack_first) {
    Budget& host = budget->host();  // as pack_dit
    WeightSizer sizer(*backend, host, MemoryCategory::kWeights, types, s.merge_bytes);
    auto nothing = [](const PackedPage&, const std::byte*) { return Status(); };
    LA_RETURN_IF_ERROR(pack_dit_pages(s.shapes.dit, packed.header.pages, sizer, host, nothing));
  }
  LA_ASSIGN_OR_RETURN(dit, S2vDit::open(std::move(packed), *backend, *budget));
  return {};
}

Expected<std::unique_ptr<Models>> Models::without_weights(const EngineOptions& options, DeviceSource* device) {
  auto models = std::make_unique<Models>();
  models->checkpoint = std::make_unique<Checkpoint>();
  models->checkpoint->options = options;
  LA_RETURN_IF_ERROR(models->open_device(device, false));
  return models;
}

void Models::release_scratch() {
  for (Backend* b : {host_backend.get(), backend.get(), decode_backend.get()})
    if (b != nullptr) b->release_scratch();
}

// The budgets before the backends, whose scratch is charged to them.
Status Models::open_device(DeviceSource* source, bool dry_run) {
  const EngineOptions& o = options();
  auto limit = [](size_t bytes) { return bytes == 0 ? Budget::kUnlimited : bytes; };
  const BackendOptions how{.threads = o.threads,
                           .int8_products = o.int8_products,
                           .tune = o.tune == Tune::kAuto,
                           .choices_file = card_choice_file()};
  if (source == nullptr && is_card(o.device)) {
    if (dry_run) {
      card = plan_card_device(o.device);
    } else {
      LA_ASSIGN_OR_RETURN(card, open_card_device(o.device));
    }
    source = card.get();
  }
  if (source == nullptr) {
    budget =
        dry_run ? std::make_unique<Budget>(Budget::DryRun()) : std::make_unique<Budget>(limit(o.memory_budget_bytes));
    return open_host(how);
  }
  if (dry_run) {
    host_budget = std::make_unique<Budget>(Budget::DryRun());
    budget = std::make_unique<Budget>(Budget::DryRun(), source->allocator(), *host_budget);
  } else {
    host_budget = std::make_unique<Budget>(limit(o.host_budget_bytes));
    budget = std::make_unique<Budget>(limit(o.memory_budget_bytes), source->allocator(), *host_budget);
  }
  return open_backends(*source, how);
}

// The text and the audio encoder stay on the host.
Status Models::open_backends(DeviceSource& source, BackendOptions how) {
  const EngineOptions& o = options();
  LA_ASSIGN_OR_RETURN(program, Charge::acquire(*host_budget, MemoryCategory::kRuntime, program_bytes(options())));
  how.budget = host_budget.get();
  LA_ASSIGN_OR_RETURN(host_backend, make_backend(is_card(o.device) ? "cpu" : o.device, how));
  how.budget = budget.get();
  LA_ASSIGN_OR_RETURN(backend, source.open(how));
  if (!checkpoint->shape().decodes_beside()) return {};
  how.threads = o.decode_threads;
  LA_ASSIGN_OR_RETURN(decode_backend, source.open(how));
  return {};
}

// All on the host.
Status Models::open_host(BackendOptions o) {
  LA_ASSIGN_OR_RETURN(program, Charge::acquire(*budget, MemoryCategory::kRuntime, program_bytes(options())));
  o.budget = budget.get();
  LA_ASSIGN_OR_RETURN(backend, make_backend(options().device, o));
  o.threads = options().decode_threads;
  if (o.threads == 0) return {};
  LA_ASSIGN_OR_RETURN(decode_backend, make_backend(options().device, o));
  return {};
}

// All on the device, or what is in no layer: the layers come with a job, from host memory or a packed file.
Status Models::load_dit(const RankShare& share) {
  if (!share.whole()) {
    WeightLoader loader(*checkpoint->dit, *backend, *budget, MemoryCategory::kWeights, types);
    LA_ASSIGN_OR_RETURN(dit, S2vDit::load_shard(shapes().dit, types, share, loader, *backend, *budget));
    return {};
  }
  if (from_host_memory(options())) {
    WeightLoader loader(*checkpoint->dit, *backend, *budget, MemoryCategory::kWeights, types);
    LA_ASSIGN_OR_RETURN(dit, S2vDit::load_beside(shapes().dit, types, loader, *backend, *budget));
    return {};
  }
  if (!from_packed_file(options())) {
    LA_ASSIGN_OR_RETURN(dit, S2vDit::load(shapes().dit, *checkpoint->dit, *backend, *budget, types));
    return {};
  }
  std::string path = options().packed_dit;
  if (path.empty()) {
    LA_ASSIGN_OR_RETURN(path, paging_file(*checkpoint, *backend, *budget));
  }
  LA_ASSIGN_OR_RETURN(PackedDit packed, PackedDit::open(path, *backend, types));
  LA_ASSIGN_OR_RETURN(dit, S2vDit::open(std::move(packed), *backend, *budget));
  return {};
}

Expected<OwnedTensor> on_device(Models& models, OwnedTensor rows, Budget& budget) {
  if (models.host_backend == nullptr) return rows;
  const Tensor& from = rows.tensor;
  LA_ASSIGN_OR_RETURN(OwnedTensor to,
                      OwnedTensor::allocate(budget, MemoryCategory::kConditioning, from.shape, from.dtype));
  if (!budget.dry_run()) ops::transfer(models.text_backend(), from, *models.backend, to.tensor);
  return to;
}

Expected<PromptIds> prompt_ids(const Checkpoint& checkpoint, const std::string& prompt) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::load(checkpoint.paths.tokenizer));
  PromptIds result{tokenizer->encode(prompt, std::numeric_limits<int64_t>::max()), 0};
  result.uncut = static_cast<int64_t>(result.ids.size());
  const int64_t most = checkpoint.shapes.dit.text_len;
  if (result.uncut > most) result.ids = tokenizer->encode(prompt, most);
  return result;
}

Expected<OwnedTensor> run_text_encoder(Models& models, std::span<const int32_t> ids, Budget& budget,
                                       const std::stop_token& stop) {
  const Checkpoint& c = *models.checkpoint;
  const DType values = models.types.values;
  if (budget.dry_run()) return Umt5::dry_run(c.shapes.text, models.text_backend(), values)->encode(ids, budget.host());
  if (c.shapes.text.dim != c.shapes.dit.text_dim) {
    return corrupt(c.paths.text_encoder + ": rows are " + std::to_string(c.shapes.text.dim) +
                   " wide, the video model takes " + std::to_string(c.shapes.dit.text_dim) +
                   "; these files belong to different checkpoints");
  }
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Umt5> encoder, Umt5::load(*c.text, models.text_backend(), values));
  return encoder->encode(ids, budget.host(), stop);
}

}  // namespace liveavatar
