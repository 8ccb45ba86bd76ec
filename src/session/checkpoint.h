// A checkpoint whose files are open: each is opened once, and no weight is read yet.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "liveavatar/liveavatar.h"
#include "session/job_shape.h"
#include "weights/find_parts.h"
#include "weights/lora.h"

namespace liveavatar {

// Of the original's videos, as an area.
constexpr const char* kOriginalVideoSize = "704*384";

struct Checkpoint {
  EngineOptions options;
  EngineOptions asked;  // what `options` were resolved from; other ranks of the process are resolved from it too
  PartPaths paths;
  ModelShapes shapes;
  TensorSourcePtr dit;               // adapters merged in as it is read; null: from options.packed_dit
  TensorSourcePtr text, vae, audio;  // of the other parts
  std::vector<std::string> notes;    // what merging the adapters does, a line each
  size_t merge_bytes = 0;            // in which they are merged while `dit` is read
  std::stop_token stop;              // of open(): ends the wait for another job's paging file too

  // Errors: a part that is missing or not what it should be; options that contradict each other.
  // stop: whatever reads weights later hears it.
  static Expected<std::unique_ptr<Checkpoint>> open(const EngineOptions& options, const std::stop_token& stop = {});
  // The numbers of its models, and how they are loaded.
  JobShape shape() const;
  // The size of its videos, as an area: the model's own, or the original's.
  std::string video_size() const;
};

// What the options say of where the parts lie.
PartRequest part_request(const EngineOptions& options);
// kInvalidArgument for options that contradict each other.
Status check_options(const EngineOptions& options);
// What the options say of a model of these shapes, without its files.
JobShape model_shape(const EngineOptions& options, const ModelShapes& shapes);

// The video model's tensors, the options' adapters merged in as they are read.
struct DitTensors {
  TensorSourcePtr source;
  std::vector<std::string> notes;  // what merging does, a line each
  size_t merge_bytes = 0;          // 0: no adapter
  std::string key;                 // weights_key()
};
Expected<DitTensors> open_dit_tensors(const PartPaths& paths, const EngineOptions& options);

// Whether the layers come from a packed file: one that was given, or one in the paging folder.
bool from_packed_file(const EngineOptions& options);
// Whether the layers are in host memory beside a card, so that some may stay off it without a file.
bool from_host_memory(const EngineOptions& options);
// The packed file of these weights, adapters, types and backend in the paging folder; made if it is not there yet.
Expected<std::string> paging_file(const Checkpoint& checkpoint, const Backend& backend, Budget& budget);

// `liveavatar convert`: options name folder or GGUF, adapters, device and types. `say` gets lines for the user.
struct ConvertCalls {
  std::function<void(const std::string& note)> say;                 // what merging does
  std::function<bool(uint64_t bytes, uint64_t of_bytes)> progress;  // false: stop
};
Status convert_dit(const EngineOptions& options, const std::string& out, const ConvertCalls& calls);

}  // namespace liveavatar
