#include "cli/model_flags.h"

#include <charconv>
#include <filesystem>
#include <utility>

#include "cli/embedded.h"
#include "core/status.h"
#include "weights/hub_cache.h"
#include "weights/packed_file.h"

namespace liveavatar::cli {
namespace {

// "a.safetensors:0.8": a path, which may hold colons itself, and a strength.
LoraOptions parse_lora(const std::string& text) {
  std::error_code ignored;
  size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0 || std::filesystem::exists(text, ignored)) return {text};
  LoraOptions lora{text.substr(0, colon)};
  const char *begin = text.data() + colon + 1, *end = text.data() + text.size();
  auto [at, error] = std::from_chars(begin + (begin != end && *begin == '+' ? 1 : 0), end, lora.strength);
  if (error != std::errc() || at != end) return {text};
  return lora;
}

}  // namespace

void add_model_flags(CLI::App& app, EngineOptions& options, const std::string& group) {
  app.add_option("--ckpt_dir", options.checkpoint_dir,
                 "Folder with the model: the original's, a ComfyUI models/ tree, or all files in one; or its name on\n"
                 "the Hugging Face hub (Wan-AI/Wan2.2-S2V-14B) where that lies in the local cache")
      ->group(group);
  add_part_flags(app, options, group);
}

void add_part_flags(CLI::App& app, EngineOptions& options, const std::string& group) {
  app.add_option("--dit,--gguf", options.dit_path,
                 "The video model, in place of the folder's: safetensors, GGUF, a folder of shards, or a file made by\n"
                 "`liveavatar convert`, whose layers stay on disk as far as they must with --memory_budget")
      ->group(group);
  app.add_option("--text_encoder", options.text_encoder, "UMT5, in place of the folder's: a file or a folder of shards")
      ->group(group);
  app.add_option("--vae", options.vae, "The video VAE, in place of the folder's")->group(group);
  app.add_option("--audio_encoder", options.audio_encoder, "wav2vec2, in place of the folder's")->group(group);
  app.add_option("--tokenizer", options.tokenizer,
                 "spiece.model, or the folder that holds it; not needed where the text encoder's file holds one")
      ->group(group);
  app.add_option("--lora_path_dmd,--lora_path", options.lora_path,
                 "liveavatar.safetensors, the folder that holds it, or its name on the hub, as for --ckpt_dir")
      ->group(group);
  app.add_option("--lora_alpha", options.lora_alpha, "Alpha of Live Avatar's own LoRA, whose file has none")
      ->capture_default_str()
      ->group(group);
  app.add_option_function<std::vector<std::string>>(
         "--lora",
         [&options](const std::vector<std::string>& all) {
           for (const std::string& text : all) options.loras.push_back(parse_lora(text));
         },
         "A further LoRA, merged after that one, as FILE or FILE:STRENGTH; may be given several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false)
      ->group(group);
}

bool names_model(const EngineOptions& options) {
  return !options.checkpoint_dir.empty() || !options.dit_path.empty() || !options.packed_dit.empty() ||
         !options.text_encoder.empty() || !options.vae.empty() || !options.audio_encoder.empty() ||
         !options.tokenizer.empty();
}

Status find_local_files(EngineOptions& options) {
  const std::pair<const char*, std::string*> paths[] = {
      {"--ckpt_dir", &options.checkpoint_dir},     {"--dit", &options.dit_path},
      {"--text_encoder", &options.text_encoder},   {"--vae", &options.vae},
      {"--audio_encoder", &options.audio_encoder}, {"--tokenizer", &options.tokenizer},
      {"--lora_path_dmd", &options.lora_path}};
  for (const auto& [flag, path] : paths) {
    LA_ASSIGN_OR_RETURN(*path, find_local(flag, *path));
  }
  for (LoraOptions& lora : options.loras) {
    LA_ASSIGN_OR_RETURN(lora.path, find_local("--lora", lora.path));
  }
  if (is_packed_file(options.dit_path)) std::swap(options.dit_path, options.packed_dit);
  return {};
}

Status use_embedded_model(EngineOptions& options) {
  LA_ASSIGN_OR_RETURN(options.checkpoint_dir, embedded_path("models/mini"));
  return {};
}

}  // namespace liveavatar::cli
