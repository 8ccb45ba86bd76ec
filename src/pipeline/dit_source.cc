#include "pipeline/dit_source.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "core/output_files.h"
#include "ops/make_backend.h"
#include "plan/memory_plan.h"
#include "plan/model_shapes.h"
#include "weights/lora.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

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

Expected<LoraMerges> merge_dit(const PartPaths& paths, const EngineOptions& options) {
  LA_ASSIGN_OR_RETURN(TensorSourcePtr base, open_part(paths.dit, Part::kVideoModel));
  std::vector<LoraAdapter> adapters;
  for (const LoraOptions& lora : all_loras(options)) {
    LA_ASSIGN_OR_RETURN(LoraAdapter adapter, open_lora(lora.path));
    adapter.strength = lora.strength;
    if (is_live_avatar_lora(adapter)) adapter.alpha = options.lora_alpha;
    adapters.push_back(std::move(adapter));
  }
  return merge_loras(std::move(base), std::move(adapters));
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
  add(options.dtype + options.weights_dtype + packing);
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

Expected<TensorSourcePtr> open_dit_tensors(const PartPaths& paths, const EngineOptions& options) {
  LA_ASSIGN_OR_RETURN(LoraMerges merges, merge_dit(paths, options));
  return merges.source;
}

Expected<std::vector<std::string>> lora_notes(const EngineOptions& options) {
  std::vector<std::string> notes;
  if (!options.packed_dit.empty() || all_loras(options).empty()) return notes;
  LA_ASSIGN_OR_RETURN(PartPaths paths, find_video_model(part_request(options)));
  LA_ASSIGN_OR_RETURN(LoraMerges merges, merge_dit(paths, options));
  for (const LoraReport& report : merges.reports) notes.push_back(report.line());
  return notes;
}

Expected<size_t> merge_bytes(const PartPaths& paths, const EngineOptions& options) {
  if (!options.packed_dit.empty() || all_loras(options).empty()) return size_t{0};
  LA_ASSIGN_OR_RETURN(TensorSourcePtr source, open_dit_tensors(paths, options));
  return source->scratch_bytes();
}

Expected<std::string> paging_file(const EngineOptions& options, const PartPaths& paths, const Backend& backend,
                                  Budget& budget) {
  std::error_code ignored;
  LA_RETURN_IF_ERROR(check_writable_folder({"--paging_dir", options.paging_dir}));
  LA_ASSIGN_OR_RETURN(std::string key, fingerprint(options, paths, backend.packing()));
  LA_ASSIGN_OR_RETURN(DitTypes types, parse_type_flags(options.dtype, options.weights_dtype, ""));
  std::string path = options.paging_dir + "/liveavatar-" + key + ".packed";
  auto is_there = [&] { return fs::exists(path, ignored) && PackedDit::open(path, backend, types).ok(); };
  if (is_there()) return path;
  LA_ASSIGN_OR_RETURN(PendingFile file, PendingFile::open(path, PendingFile::Busy::kWait));
  if (is_there()) return path;  // another job made it meanwhile
  remove_abandoned(options.paging_dir);
  LA_ASSIGN_OR_RETURN(DitConfig config, find_dit_config(paths));
  LA_ASSIGN_OR_RETURN(TensorSourcePtr source, open_dit_tensors(paths, options));
  LA_RETURN_IF_ERROR(pack_dit(config, *source, backend, budget, {path, types, {}, &file}));
  return path;
}

Status convert_dit(const EngineOptions& options, const std::string& out,
                   const std::function<bool(uint64_t bytes, uint64_t of_bytes)>& progress) {
  LA_ASSIGN_OR_RETURN(PartPaths paths, find_video_model(part_request(options)));
  LA_ASSIGN_OR_RETURN(DitTypes types, parse_type_flags(options.dtype, options.weights_dtype, ""));
  LA_ASSIGN_OR_RETURN(PendingFile file, PendingFile::open(out, PendingFile::Busy::kRefuse));
  LA_ASSIGN_OR_RETURN(DitConfig config, find_dit_config(paths));
  LA_ASSIGN_OR_RETURN(TensorSourcePtr source, open_dit_tensors(paths, options));
  Budget budget;
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend,
                      make_backend(options.device, {.threads = options.threads, .budget = &budget}));
  return pack_dit(config, *source, *backend, budget, {out, types, progress, &file});
}

}  // namespace liveavatar
