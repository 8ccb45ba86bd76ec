// Where a job's video model comes from: the checkpoint folder with its LoRA, or a packed file.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "liveavatar/liveavatar.h"
#include "models/s2v_dit/s2v_dit.h"
#include "weights/find_parts.h"

namespace liveavatar {

// What the options say of where the parts lie.
PartRequest part_request(const EngineOptions& options);

// Whether the layers come from a packed file: one that was given, or one in the paging folder.
bool from_packed_file(const EngineOptions& options);

// The video model's tensors, the options' LoRA adapters merged in.
Expected<TensorSourcePtr> open_dit_tensors(const PartPaths& paths, const EngineOptions& options);

// What merging the options' adapters does, a line each; reads headers only. Errors are those of the merge.
Expected<std::vector<std::string>> lora_notes(const EngineOptions& options);

// What the source of open_dit_tensors takes while it is read; nothing is read but headers. 0: no adapter is merged.
Expected<size_t> merge_bytes(const PartPaths& paths, const EngineOptions& options);

// The packed file of these weights, LoRAs, types and backend in the paging folder; made if it is not there yet.
Expected<std::string> paging_file(const EngineOptions& options, const PartPaths& paths, const Backend& backend,
                                  Budget& budget);

// `liveavatar convert`: options name folder or GGUF, LoRA, device and types.
Status convert_dit(const EngineOptions& options, const std::string& out,
                   const std::function<bool(uint64_t bytes, uint64_t of_bytes)>& progress);

}  // namespace liveavatar
