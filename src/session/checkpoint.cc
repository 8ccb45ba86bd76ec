#include "session/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>
#include <vector>

#include "core/output_files.h"
#include "core/threads.h"
#include "models/s2v_dit/packed.h"
#include "ops/make_backend.h"
#include "session/check_field.h"
#include "session/rank_devices.h"
#include "weights/part.h"
#include "weights/stoppable_source.h"
#include "weights/weights_key.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLargestCacheBytes = size_t{1} << 40;

// Path, size and time of change of a file.
std::string stamp(const fs::path& path) {
  std::error_code ignored;
  auto changed = fs::last_write_time(path, ignored).time_since_epoch().count();
  return fs::absolute(path, ignored).string() + " " + std::to_string(fs::file_size(path, ignored)) + " " +
         std::to_string(changed) + "\n";
}

// lora_path and then the others, in the order in which they are merged.
std::vector<LoraOptions> all_loras(const EngineOptions& options) {
  std::vector<LoraOptions> all;
  if (!options.lora_path.empty()) all.push_back({options.lora_path, 1});
  all.insert(all.end(), options.loras.begin(), options.loras.end());
  return all;
}

Expected<std::vector<LoraAdapter>> open_adapters(const EngineOptions& options) {
  std::vector<LoraAdapter> adapters;
  for (const LoraOptions& lora : all_loras(options)) {
    LA_ASSIGN_OR_RETURN(LoraAdapter adapter, open_lora(lora.path));
    adapter.strength = lora.strength;
    if (is_live_avatar_lora(adapter)) adapter.alpha = options.lora_alpha;
    adapters.push_back(std::move(adapter));
  }
  return adapters;
}

// Changes with whatever would make other weights.
Expected<std::string> fingerprint(const EngineOptions& options, const PartPaths& paths, const std::string& packing) {
  std::vector<std::string> files;
  for (const std::string& file : files_behind(paths.dit)) files.push_back(stamp(file));
  if (!paths.dit_config.empty()) files.push_back(stamp(paths.dit_config));
  // The order of adapters counts: one may replace what another changed.
  for (const LoraOptions& lora : all_loras(options)) {
    LA_ASSIGN_OR_RETURN(LoraFiles found, find_lora(lora.path));
    char numbers[64];
    std::snprintf(numbers, sizeof(numbers), "%.17g %.17g\n", lora.strength, options.lora_alpha);
    files.push_back(stamp(found.weights) + (found.config.empty() ? "" : stamp(found.config)) + numbers);
  }
  uint64_t hash = 14695981039346656037u;
  auto add = [&](const std::string& text) {
    for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  };
  for (const std::string& file : files) add(file);
  add(std::string(compute_type_name(options.dtype)) + weights_type_name(options.weights_dtype) + packing);
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return std::string(text);
}

}  // namespace

PartRequest part_request(const EngineOptions& options) {
  return {.folder = options.checkpoint_dir,
          .dit = options.dit_path,
          .text_encoder = options.text_encoder,
          .vae = options.vae,
          .audio_encoder = options.audio_encoder,
          .tokenizer = options.tokenizer,
          .with_dit = options.packed_dit.empty()};
}

bool from_packed_file(const EngineOptions& options) {
  bool may_page = options.page_weights && !options.paging_dir.empty() && options.memory_budget_bytes > 0;
  return !options.packed_dit.empty() || may_page;
}

bool from_host_memory(const EngineOptions& options) {
  return is_card(options.device) && options.page_weights && options.paging_dir.empty() && options.packed_dit.empty();
}

Expected<DitTensors> open_dit_tensors(const PartPaths& paths, const EngineOptions& options) {
  LA_ASSIGN_OR_RETURN(TensorSourcePtr base, open_part(paths.dit, Part::kVideoModel));
  LA_ASSIGN_OR_RETURN(std::vector<LoraAdapter> adapters, open_adapters(options));
  LA_ASSIGN_OR_RETURN(std::string key, weights_key(*base, adapters));
  LA_ASSIGN_OR_RETURN(LoraMerges merges, merge_loras(std::move(base), std::move(adapters)));
  DitTensors tensors{merges.source, {}, 0, std::move(key)};
  for (const LoraReport& report : merges.reports) tensors.notes.push_back(report.line());
  if (!merges.reports.empty()) tensors.merge_bytes = merges.source->scratch_bytes();
  return tensors;
}

namespace {

Status check_paths(const EngineOptions& options) {
  const std::pair<const char*, const std::string*> paths[] = {
      {"`checkpoint_dir`", &options.checkpoint_dir}, {"`dit_path`", &options.dit_path},
      {"`text_encoder`", &options.text_encoder},     {"`vae`", &options.vae},
      {"`audio_encoder`", &options.audio_encoder},   {"`tokenizer`", &options.tokenizer},
      {"`lora_path`", &options.lora_path},           {"`packed_dit`", &options.packed_dit},
      {"`paging_dir`", &options.paging_dir}};
  for (const auto& [field, path] : paths) LA_RETURN_IF_ERROR(check_path(field, *path));
  for (const LoraOptions& lora : options.loras) LA_RETURN_IF_ERROR(check_path("`loras`", lora.path));
  return {};
}

Status check_threads(const char* field, int threads) {
  if (threads >= 0 && threads <= kMostThreads) return {};
  return invalid_argument(std::string(field) + " " + std::to_string(threads) + ": choose 0 to " +
                          std::to_string(kMostThreads));
}

Status check_loras(const EngineOptions& options) {
  if (!std::isfinite(options.lora_alpha)) return invalid_argument("`lora_alpha`: give a finite number");
  for (const LoraOptions& lora : options.loras) {
    if (!std::isfinite(lora.strength))
      return invalid_argument("`loras` " + lora.path + ": its strength must be a finite number");
  }
  return {};
}

Status check_ranks(const EngineOptions& options) {
  LA_RETURN_IF_ERROR(placement_request(options).status());
  if (!options.shard_weights) return {};
  if (!options.packed_dit.empty())
    return invalid_argument(
        "`shard_weights` with `packed_dit`: a packed file's layers are read from it on every "
        "device; leave one of the two out");
  if (!options.paging_dir.empty() && options.page_weights)
    return invalid_argument(
        "`shard_weights` with `paging_dir`: layers come from other devices, not from disk; leave "
        "one of the two out");
  return {};
}

}  // namespace

Status check_options(const EngineOptions& options) {
  LA_RETURN_IF_ERROR(check_paths(options));
  LA_RETURN_IF_ERROR(check_choice("`dtype`", options.dtype, ComputeType::kF32));
  LA_RETURN_IF_ERROR(check_choice("`weights_dtype`", options.weights_dtype, WeightsType::kQ4));
  LA_RETURN_IF_ERROR(check_choice("`kv_dtype`", options.kv_dtype, KvType::kFp8));
  LA_RETURN_IF_ERROR(check_choice("`tune`", options.tune, Tune::kOff));
  LA_RETURN_IF_ERROR(check_loras(options));
  if (options.offload_kv_cache && options.paging_dir.empty() && !is_card(options.device))
    return invalid_argument("`offload_kv_cache`: give `paging_dir` DIR too, a folder on disk for keys and values");
  if (!options.packed_dit.empty() && !all_loras(options).empty())
    return invalid_argument("a LoRA with `packed_dit`: it is merged in by `liveavatar convert`");
  LA_RETURN_IF_ERROR(check_threads("`threads`", options.threads));
  LA_RETURN_IF_ERROR(check_threads("`decode_threads`", options.decode_threads));
  if (options.decode_threads > 0 && is_card(options.device))
    return invalid_argument("`decode_threads`: `device` " + options.device +
                            " decodes on a stream of its own, not on threads; leave it out");
  if (options.cache_bytes > kLargestCacheBytes)
    return invalid_argument("`cache_bytes` " + std::to_string(options.cache_bytes) + ": choose up to " +
                            std::to_string(kLargestCacheBytes));
  LA_RETURN_IF_ERROR(check_ranks(options));
  return check_int8_products(options.int8_products, options.weights_dtype);
}

JobShape model_shape(const EngineOptions& options, const ModelShapes& shapes) {
  JobShape shape;
  shape.shapes = shapes;
  shape.device = options.device;
  shape.dtype = options.dtype;
  shape.weights_dtype = options.weights_dtype;
  shape.kv_dtype = options.kv_dtype;
  shape.int8_products = options.int8_products;
  shape.tune = options.tune;
  const Expected<PlacementRequest> ranks = placement_request(options);
  if (ranks.ok()) shape.ranks = *ranks;  // else check_options() says it
  const Expected<std::vector<std::string>> devices = rank_devices(options);
  shape.one_host = devices.ok() && on_one_host(options, *devices);
  shape.shard_weights = options.shard_weights;
  shape.processes = are_processes(options);
  shape.threads = options.threads;
  shape.decode_threads = options.decode_threads;
  shape.decode_beside = options.decode_beside;
  shape.cache_bytes = options.cache_bytes;
  shape.layers_in_host = from_host_memory(options);
  shape.packed = shape.layers_in_host || from_packed_file(options);
  // Or it was made by an earlier run.
  shape.pack_first = shape.packed && !shape.layers_in_host && options.packed_dit.empty();
  shape.disk_kv_caches = !options.paging_dir.empty();
  if (options.offload_kv_cache) shape.resident_kv_caches = 0;
  return shape;
}

Expected<std::unique_ptr<Checkpoint>> Checkpoint::open(const EngineOptions& options, const std::stop_token& stop) {
  LA_RETURN_IF_ERROR(check_options(options));
  auto c = std::make_unique<Checkpoint>();
  c->options = c->asked = options;
  c->stop = stop;
  LA_ASSIGN_OR_RETURN(c->paths, find_parts(part_request(options)));
  if (options.packed_dit.empty()) {
    LA_ASSIGN_OR_RETURN(DitTensors tensors, open_dit_tensors(c->paths, options));
    LA_ASSIGN_OR_RETURN(c->shapes.dit, find_dit_config(*tensors.source, c->paths.dit_config));
    c->shapes.dit_key = std::move(tensors.key);
    c->dit = std::move(tensors.source);
    c->notes = std::move(tensors.notes);
    c->merge_bytes = tensors.merge_bytes;
  } else {
    LA_ASSIGN_OR_RETURN(PackedHeader header, read_packed_header(options.packed_dit));
    LA_ASSIGN_OR_RETURN(c->shapes.dit, parse_dit_config(header.config, options.packed_dit));
    c->shapes.dit_key = weights_key(header);
  }
  LA_ASSIGN_OR_RETURN(c->vae, open_part(c->paths.vae, Part::kVae));
  LA_ASSIGN_OR_RETURN(c->shapes.vae, read_vae_config(*c->vae));
  LA_ASSIGN_OR_RETURN(c->text, open_part(c->paths.text_encoder, Part::kTextEncoder));
  LA_ASSIGN_OR_RETURN(c->shapes.text, read_umt5_config(*c->text));
  LA_ASSIGN_OR_RETURN(c->audio, open_part(c->paths.audio_encoder, Part::kAudioEncoder));
  LA_ASSIGN_OR_RETURN(c->shapes.audio, find_wav2vec2_config(*c->audio, c->paths.audio_config_dir));
  for (TensorSourcePtr* source : {&c->dit, &c->text, &c->vae, &c->audio}) {
    if (*source != nullptr) *source = stoppable(std::move(*source), stop);
  }
  return c;
}

JobShape Checkpoint::shape() const {
  JobShape shape = model_shape(options, shapes);
  shape.merge_bytes = merge_bytes;
  return shape;
}

std::string Checkpoint::video_size() const {
  return shapes.dit.video_size.empty() ? kOriginalVideoSize : shapes.dit.video_size;
}

Expected<std::string> paging_file(const Checkpoint& checkpoint, const Backend& backend, Budget& budget) {
  const EngineOptions& options = checkpoint.options;
  std::error_code ignored;
  LA_RETURN_IF_ERROR(check_writable_folder({"`paging_dir`", options.paging_dir}));
  LA_ASSIGN_OR_RETURN(std::string key, fingerprint(options, checkpoint.paths, backend.packing()));
  const DitTypes types = dit_types(options.dtype, options.weights_dtype);
  std::string path = options.paging_dir + "/liveavatar-" + key + ".packed";
  auto is_there = [&] { return fs::exists(path, ignored) && PackedDit::open(path, backend, types).ok(); };
  if (is_there()) return path;
  LA_ASSIGN_OR_RETURN(PendingFile file, PendingFile::open(path, PendingFile::Busy::kWait, checkpoint.stop));
  if (is_there()) return path;  // another job made it meanwhile
  remove_abandoned(options.paging_dir);
  LA_RETURN_IF_ERROR(pack_dit(checkpoint.shapes.dit, *checkpoint.dit, backend, budget, {path, types, {}, &file}));
  return path;
}

Status convert_dit(const EngineOptions& options, const std::string& out, const ConvertCalls& calls) {
  LA_ASSIGN_OR_RETURN(PartPaths paths, find_video_model(part_request(options)));
  const DitTypes types = dit_types(options.dtype, options.weights_dtype);
  LA_ASSIGN_OR_RETURN(DitTensors tensors, open_dit_tensors(paths, options));
  LA_ASSIGN_OR_RETURN(DitConfig config, find_dit_config(*tensors.source, paths.dit_config));
  for (const std::string& note : tensors.notes) calls.say(note);
  LA_ASSIGN_OR_RETURN(PendingFile file, PendingFile::open(out, PendingFile::Busy::kRefuse));
  Budget budget;
  LA_ASSIGN_OR_RETURN(PackingBackend packing,
                      make_packing_backend(options.device, {.threads = options.threads, .budget = &budget}));
  return pack_dit(config, *tensors.source, *packing.backend, budget, {out, types, calls.progress, &file});
}

}  // namespace liveavatar
