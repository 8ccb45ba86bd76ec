#include "cli/model_flags.h"

#include <charconv>
#include <filesystem>

#include "cli/embedded.h"
#include "core/status.h"
#include "weights/hub_cache.h"

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
                 "Checkpoint folder in the original's layout, or its name on the Hugging Face hub where that lies\n"
                 "in the local cache")
      ->group(group);
  app.add_option("--gguf", options.gguf_path,
                 "The video model's weights from a GGUF file, in place of the folder's safetensors\n"
                 "(a .gguf that lies there without them is found by itself)")
      ->group(group);
  app.add_option("--dit", options.packed_dit,
                 "Video model made by `liveavatar convert`, instead of the folder's; with --memory_budget\n"
                 "its layers stay on disk as far as they must")
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

Expected<bool> settle_model_files(EngineOptions& options) {
  LA_ASSIGN_OR_RETURN(options.lora_path, find_local("--lora_path_dmd", options.lora_path));
  for (LoraOptions& lora : options.loras) {
    LA_ASSIGN_OR_RETURN(lora.path, find_local("--lora", lora.path));
  }
  const bool named = !options.checkpoint_dir.empty();
  if (named) {
    LA_ASSIGN_OR_RETURN(options.checkpoint_dir, find_local("--ckpt_dir", options.checkpoint_dir));
  } else {
    LA_ASSIGN_OR_RETURN(options.checkpoint_dir, embedded_path("models/mini"));
  }
  return !named;
}

}  // namespace liveavatar::cli
