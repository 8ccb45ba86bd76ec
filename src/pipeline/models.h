// The loaded parts of a checkpoint on one backend.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"
#include "core/memory.h"
#include "liveavatar/liveavatar.h"
#include "models/s2v_dit/s2v_dit.h"
#include "models/wan_vae/wan_vae.h"
#include "models/wav2vec2/wav2vec2.h"
#include "plan/model_shapes.h"
#include "weights/find_parts.h"

namespace liveavatar {

// Where a device comes from: its memory first, then, over a budget of that memory, its ops.
class DeviceSource {
 public:
  virtual ~DeviceSource() = default;
  virtual Allocator& allocator() = 0;
  virtual Expected<std::unique_ptr<Backend>> open(const BackendOptions& options) = 0;
};

// Members die in reverse order: models first, then the backends, then the budgets that they charge.
struct Models {
  std::unique_ptr<Budget> host_budget;  // null: the device is the host
  std::unique_ptr<Budget> budget;       // of the device
  Charge program;
  std::unique_ptr<Backend> host_backend;  // null: the device is the host
  std::unique_ptr<Backend> backend;       // of the video model and the VAE
  // Of the text and the audio encoder.
  Backend& text_backend() { return host_backend ? *host_backend : *backend; }
  PartPaths paths;
  ModelShapes shapes;
  EngineOptions options;
  DitTypes types{DType::kBF16};  // of the video model; the others are in its `values`
  std::unique_ptr<S2vDit> dit;
  std::unique_ptr<WanVae> vae;
  std::unique_ptr<Wav2Vec2> audio;

  // Everything but the text encoder, which is needed once a prompt (encode_prompt).
  // device: instead of the one that options names; the text and the audio encoder stay on the host.
  static Expected<std::unique_ptr<Models>> load(const EngineOptions& options, DeviceSource* device = nullptr);
  Status open_device(size_t limit_bytes, DeviceSource* source);
};

// Rows of the text encoder on the video model's device.
Expected<OwnedTensor> on_device(Models& models, OwnedTensor rows);

struct EncodedPrompt {
  std::vector<int32_t> ids;
  OwnedTensor rows;  // [tokens, text_dim] f32
};
// How many tokens the prompt has, with its end, before it is cut to what the video model takes.
Expected<int64_t> prompt_tokens(const std::string& tokenizer_path, const std::string& prompt);

// Loads the text encoder, runs it and frees it: it is the largest part after the DiT and used once.
Expected<EncodedPrompt> encode_prompt(Models& models, const std::string& prompt);

}  // namespace liveavatar
