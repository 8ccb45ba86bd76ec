#include "pipeline/models.h"

#include <limits>

#include "models/umt5/tokenizer.h"
#include "models/umt5/umt5.h"
#include "ops/make_backend.h"
#include "ops/transfer.h"
#include "pipeline/dit_source.h"
#include "pipeline/job_plan.h"
#include "weights/part.h"

namespace liveavatar {
namespace {

// All in memory from the folder, or from a packed file whose layers come with a job.
Expected<std::unique_ptr<S2vDit>> load_dit(const Models& m) {
  Backend& backend = *m.backend;
  if (!from_packed_file(m.options)) {
    LA_ASSIGN_OR_RETURN(TensorSourcePtr source, open_dit_tensors(m.paths, m.options));
    return S2vDit::load(m.shapes.dit, *source, backend, *m.budget, m.types);
  }
  std::string path = m.options.packed_dit;
  if (path.empty()) {
    LA_ASSIGN_OR_RETURN(path, paging_file(m.options, m.paths, backend, *m.budget));
  } else if (!m.options.lora_path.empty() || !m.options.loras.empty()) {
    return invalid_argument("a LoRA with --dit: it is merged in by `liveavatar convert`");
  }
  LA_ASSIGN_OR_RETURN(PackedDit packed, PackedDit::open(path, backend, m.types));
  return S2vDit::open(std::move(packed), backend, *m.budget);
}

}  // namespace

Expected<std::unique_ptr<Models>> Models::load(const EngineOptions& options, DeviceSource* device) {
  auto models = std::make_unique<Models>();
  models->options = options;
  LA_RETURN_IF_ERROR(check_options(options));
  LA_ASSIGN_OR_RETURN(models->types, parse_type_flags(options.dtype, options.weights_dtype, options.kv_dtype));
  LA_ASSIGN_OR_RETURN(models->paths, find_parts(part_request(options)));
  LA_ASSIGN_OR_RETURN(models->shapes, read_model_shapes(models->paths, options.packed_dit));
  LA_ASSIGN_OR_RETURN(size_t merge, merge_bytes(models->paths, options));
  LA_RETURN_IF_ERROR(check_load(options, models->shapes, merge));
  size_t limit = options.memory_budget_bytes == 0 ? Budget::kUnlimited : options.memory_budget_bytes;
  LA_RETURN_IF_ERROR(models->open_device(limit, device));
  Backend& backend = *models->backend;
  Budget& budget = *models->budget;

  Backend& text_backend = models->text_backend();
  const DitConfig& config = models->shapes.dit;
  LA_ASSIGN_OR_RETURN(models->dit, load_dit(*models));
  LA_ASSIGN_OR_RETURN(TensorSourcePtr vae_source, open_part(models->paths.vae, Part::kVae));
  LA_ASSIGN_OR_RETURN(models->vae, WanVae::load(*vae_source, backend, budget, models->types.values));
  LA_ASSIGN_OR_RETURN(TensorSourcePtr audio_source, open_part(models->paths.audio_encoder, Part::kAudioEncoder));
  LA_ASSIGN_OR_RETURN(models->audio, Wav2Vec2::load(models->shapes.audio, *audio_source, text_backend, budget.host(),
                                                    models->types.values));
  const Wav2Vec2Config& audio = models->audio->config();
  if (audio.layers + 1 != config.audio_layers || audio.width != config.audio_dim) {
    return corrupt(models->paths.audio_encoder + ": gives " + std::to_string(audio.layers + 1) + " states of width " +
                   std::to_string(audio.width) + ", " +
                   (options.packed_dit.empty() ? models->paths.dit : options.packed_dit) + " wants " +
                   std::to_string(config.audio_layers) + " of " + std::to_string(config.audio_dim) +
                   "; these files belong to different checkpoints");
  }
  return models;
}

// The budget before the backend, whose scratch it is charged for.
Status Models::open_device(size_t limit_bytes, DeviceSource* source) {
  BackendOptions host{.threads = options.threads, .int8_products = options.int8_products};
  if (source == nullptr) {
    budget = std::make_unique<Budget>(limit_bytes);
    LA_ASSIGN_OR_RETURN(program, Charge::take(*budget, Tenant::kRuntime, kProgramBytes));
    host.budget = budget.get();
    LA_ASSIGN_OR_RETURN(backend, make_backend(options.device, host));
    return {};
  }
  host_budget = std::make_unique<Budget>();
  budget = std::make_unique<Budget>(limit_bytes, source->allocator(), *host_budget);
  LA_ASSIGN_OR_RETURN(program, Charge::take(*host_budget, Tenant::kRuntime, kProgramBytes));
  host.budget = host_budget.get();
  LA_ASSIGN_OR_RETURN(host_backend, make_backend(options.device, host));
  LA_ASSIGN_OR_RETURN(backend, source->open({.threads = options.threads, .budget = budget.get()}));
  return {};
}

Expected<OwnedTensor> on_device(Models& models, OwnedTensor rows) {
  if (models.host_backend == nullptr) return rows;
  const Tensor& from = rows.tensor;
  LA_ASSIGN_OR_RETURN(OwnedTensor to,
                      OwnedTensor::allocate(*models.budget, Tenant::kConditioning, from.shape, from.dtype));
  ops::transfer(models.text_backend(), from, *models.backend, to.tensor);
  return to;
}

Expected<int64_t> prompt_tokens(const std::string& tokenizer_path, const std::string& prompt) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::load(tokenizer_path));
  return static_cast<int64_t>(tokenizer->encode(prompt, std::numeric_limits<int64_t>::max()).size());
}

Expected<EncodedPrompt> encode_prompt(Models& models, const std::string& prompt) {
  EncodedPrompt encoded;
  {  // the tokenizer is gone before the encoder's weights come
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::load(models.paths.tokenizer));
    encoded.ids = tokenizer->encode(prompt, models.dit->config().text_len);
  }
  LA_ASSIGN_OR_RETURN(TensorSourcePtr source, open_part(models.paths.text_encoder, Part::kTextEncoder));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Umt5> encoder,
                      Umt5::load(*source, models.text_backend(), models.budget->host(), models.types.values));
  if (encoder->dim() != models.dit->config().text_dim) {
    return corrupt(models.paths.text_encoder + ": rows are " + std::to_string(encoder->dim()) +
                   " wide, the video model takes " + std::to_string(models.dit->config().text_dim) +
                   "; these files belong to different checkpoints");
  }
  LA_ASSIGN_OR_RETURN(encoded.rows, encoder->encode(encoded.ids));
  return encoded;
}

}  // namespace liveavatar
