// The loaded parts of a checkpoint on one backend.
#pragma once

#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "backend/device_source.h"
#include "core/memory.h"
#include "models/s2v_dit/s2v_dit.h"
#include "models/wan_vae/wan_vae.h"
#include "models/wav2vec2/wav2vec2.h"
#include "session/checkpoint.h"
#include "session/condition_cache.h"

namespace liveavatar {

// Members die in reverse order: models first, then the backends, then the budgets that they charge.
struct Models {
  std::unique_ptr<DeviceSource> card;      // that options name; null: the host, or the caller's
  std::unique_ptr<Checkpoint> checkpoint;  // of its files only the text encoder's is still open
  std::unique_ptr<Budget> host_budget;     // null: the device is the host
  std::unique_ptr<Budget> budget;          // of the device
  Charge program;
  std::unique_ptr<Backend> host_backend;  // null: the device is the host
  std::unique_ptr<Backend> backend;       // of the video model and the VAE
  // For decoding beside the work of that one, on the same device in a queue of its own; null: decoding waits for its
  // turn.
  std::unique_ptr<Backend> decode_backend;
  // Of the text and the audio encoder.
  Backend& text_backend() { return host_backend ? *host_backend : *backend; }
  const EngineOptions& options() const { return checkpoint->options; }
  const ModelShapes& shapes() const { return checkpoint->shapes; }
  DitTypes types{DType::kBF16};  // of the video model; the others are in its `values`
  std::unique_ptr<S2vDit> dit;
  RankShare dit_share;  // of its layers, which load() took
  std::unique_ptr<WanVae> vae;
  std::unique_ptr<Wav2Vec2> audio;
  std::unique_ptr<ConditionCache> cache;  // null: none was asked for
  Charge planned_cache, planned_pages;    // of a dry run: the cache, full; a PageServer

  // Frees the backends' scratch, when nothing runs on them: the next job's plan is that of the first.
  void release_scratch();

  // Everything that a rank needs but the text encoder, which is needed once a prompt (run_text_encoder): without
  // `samples` no video model, without `lead` nothing else.
  // device: instead of the one that options names; the text and the audio encoder stay on the host.
  static Expected<std::unique_ptr<Models>> load(std::unique_ptr<Checkpoint> checkpoint, DeviceSource* device = nullptr,
                                                const RankPart& rank = {});
  // The video model of `lead`, which outlives the result, for another rank of this host: the same weights and budget,
  // and a backend of its own.
  static Expected<std::unique_ptr<Models>> beside(Models& lead);
  // The same without a file or a weight, over a dry-run budget: what load() charges is charged, and what a video does
  // on them (VideoSession). With video_model_only the other models are null.
  static Expected<std::unique_ptr<Models>> dry_run(const JobShape& shape);
  // Backends and budget of these options, and no model yet.
  static Expected<std::unique_ptr<Models>> without_weights(const EngineOptions& options,
                                                           DeviceSource* device = nullptr);

 private:
  Status open_device(DeviceSource* source, bool dry_run);
  Status open_host(BackendOptions options);
  Status open_backends(DeviceSource& source, BackendOptions options);
  Status load_dit(const RankShare& share);
  Status dry_run_dit(const JobShape& shape);
};

// Rows of the text encoder on the video model's device.
Expected<OwnedTensor> on_device(Models& models, OwnedTensor rows, Budget& budget);

// A prompt's ids with its end, cut to what the video model takes; and how many there were.
struct PromptIds {
  std::vector<int32_t> ids;
  int64_t uncut = 0;
};
Expected<PromptIds> prompt_ids(const Checkpoint& checkpoint, const std::string& prompt);

// Rows [tokens, text_dim] f32. Loads the text encoder, runs it and frees it: it is the largest part after the DiT and
// used once.
Expected<OwnedTensor> run_text_encoder(Models& models, std::span<const int32_t> ids, Budget& budget,
                                       const std::stop_token& stop = {});

}  // namespace liveavatar
