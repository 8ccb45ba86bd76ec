#include "session/models.h"

#include <limits>

#include "models/umt5/tokenizer.h"
#include "models/umt5/umt5.h"
#include "ops/make_backend.h"
#include "ops/transfer.h"
#include "session/memory.h"

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

}  // namespace

Expected<std::unique_ptr<Models>> Models::load(std::unique_ptr<Checkpoint> checkpoint, DeviceSource* device) {
  auto models = std::make_unique<Models>();
  models->checkpoint = std::move(checkpoint);
  Checkpoint& c = *models->checkpoint;
  LA_RETURN_IF_ERROR(check_audio(c));
  models->types = c.shape().types();
  LA_RETURN_IF_ERROR(models->open_device(device));
  LA_RETURN_IF_ERROR(models->load_dit());
  c.dit.reset();
  const DType values = models->types.values;
  Budget& budget = *models->budget;
  LA_ASSIGN_OR_RETURN(models->vae, WanVae::load(*c.vae, *models->backend, budget, values));
  c.vae.reset();
  LA_ASSIGN_OR_RETURN(models->audio,
                      Wav2Vec2::load(c.shapes.audio, *c.audio, models->text_backend(), budget.host(), values));
  c.audio.reset();
  return models;
}

// The budget before the backend, whose scratch it is charged for.
Status Models::open_device(DeviceSource* source) {
  const EngineOptions& o = options();
  const size_t limit_bytes = o.memory_budget_bytes == 0 ? Budget::kUnlimited : o.memory_budget_bytes;
  BackendOptions host{.threads = o.threads, .int8_products = o.int8_products};
  if (source == nullptr) {
    budget = std::make_unique<Budget>(limit_bytes);
    LA_ASSIGN_OR_RETURN(program, Charge::acquire(*budget, MemoryCategory::kRuntime, kProgramBytes));
    host.budget = budget.get();
    LA_ASSIGN_OR_RETURN(backend, make_backend(o.device, host));
    if (o.decode_threads == 0) return {};
    host.threads = o.decode_threads;
    LA_ASSIGN_OR_RETURN(decode_backend, make_backend(o.device, host));
    return {};
  }
  if (o.decode_threads > 0)
    return unsupported("`decode_threads`: decoding has no queue of its own on this device yet; leave it 0");
  host_budget = std::make_unique<Budget>();
  budget = std::make_unique<Budget>(limit_bytes, source->allocator(), *host_budget);
  LA_ASSIGN_OR_RETURN(program, Charge::acquire(*host_budget, MemoryCategory::kRuntime, kProgramBytes));
  host.budget = host_budget.get();
  LA_ASSIGN_OR_RETURN(host_backend, make_backend(o.device, host));
  LA_ASSIGN_OR_RETURN(backend, source->open({.threads = o.threads, .budget = budget.get()}));
  return {};
}

// All in memory from the folder, or from a packed file whose layers come with a job.
Status Models::load_dit() {
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

Expected<OwnedTensor> on_device(Models& models, OwnedTensor rows) {
  if (models.host_backend == nullptr) return rows;
  const Tensor& from = rows.tensor;
  LA_ASSIGN_OR_RETURN(OwnedTensor to,
                      OwnedTensor::allocate(*models.budget, MemoryCategory::kConditioning, from.shape, from.dtype));
  ops::transfer(models.text_backend(), from, *models.backend, to.tensor);
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

Expected<OwnedTensor> encode_prompt(Models& models, std::span<const int32_t> ids, const std::stop_token& stop) {
  const Checkpoint& c = *models.checkpoint;
  if (c.shapes.text.dim != c.shapes.dit.text_dim) {
    return corrupt(c.paths.text_encoder + ": rows are " + std::to_string(c.shapes.text.dim) +
                   " wide, the video model takes " + std::to_string(c.shapes.dit.text_dim) +
                   "; these files belong to different checkpoints");
  }
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Umt5> encoder,
                      Umt5::load(*c.text, models.text_backend(), models.budget->host(), models.types.values));
  return encoder->encode(ids, stop);
}

}  // namespace liveavatar
