// `liveavatar info CKPT`: what is in a checkpoint folder, and what is wrong with it.
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "pipeline/models.h"

namespace liveavatar::cli {
namespace {

void print_part(const PartReport& part) {
  if (!part.problem.empty()) {
    std::printf("%-14s PROBLEM  %s\n", part.part.c_str(), part.problem.c_str());
  } else if (part.tensors == 0) {
    std::printf("%-14s ok       %s\n", part.part.c_str(), part.path.c_str());
  } else {
    std::printf("%-14s ok       %lld tensors, %.1f M parameters, %.1f MB (%s)  %s\n", part.part.c_str(),
                static_cast<long long>(part.tensors), double(part.parameters) / 1e6, double(part.bytes) / 1e6,
                part.dtypes.c_str(), part.path.c_str());
  }
}

// A packed file: what its header says, and whether every page is as it was written.
int info_packed(const std::string& path) {
  auto header = read_packed_header(path);
  if (!header.ok()) return report(header.status());
  std::printf("%-14s ok       %zu tensors, %.1f M parameters, %.1f MB in %zu pages (%s, %s)  %s\n", "video model",
              header->tensors.size(), double(header->parameters()) / 1e6, double(header->file_bytes()) / 1e6,
              header->pages.size(), header->dtype.c_str(), header->packing.c_str(), path.c_str());
  std::printf("%-14s %s\n%-14s %s\n", "made of", header->source.c_str(), "config", header->config.c_str());
  Budget budget;
  if (Status status = verify_packed_file(path, budget); !status.ok()) return report(status);
  std::printf("%-14s every page is as it was written\n", "check");
  return 0;
}

int info(const EngineOptions& options) {
  if (is_packed_file(options.checkpoint_dir)) return info_packed(options.checkpoint_dir);
  bool good = true;
  for (const PartReport& part : inspect_checkpoint(options.checkpoint_dir, options.gguf_path)) {
    print_part(part);
    good = good && part.problem.empty();
  }
  auto paths = find_checkpoint(options.checkpoint_dir, options.gguf_path);
  if (!paths.ok()) return report(paths.status());
  auto config = read_dit_config(paths->dit_dir + "/config.json");
  if (!config.ok()) return report(config.status());
  std::printf("%-14s dim %lld, %lld heads, %lld layers, ffn %lld, audio after %zu layers\n", "shape",
              static_cast<long long>(config->dim), static_cast<long long>(config->heads),
              static_cast<long long>(config->layers), static_cast<long long>(config->ffn_dim),
              config->audio_inject_layers.size());
  if (!good) return 1;
  // The last word: every tensor that a run needs is read, checked for shape and for NaN, and packed.
  auto models = Models::load(options);
  if (!models.ok()) return report(models.status());
  auto prompt = encode_prompt(**models, "a test");
  if (!prompt.ok()) return report(prompt.status());
  std::printf("%-14s every tensor is there, has its shape and finite values\n", "check");
  return 0;
}

}  // namespace

Command add_info(CLI::App& app) {
  auto options = std::make_shared<EngineOptions>();
  CLI::App* command = app.add_subcommand("info", "Show what is in a checkpoint folder and what is wrong with it");
  command
      ->add_option("CKPT", options->checkpoint_dir,
                   "Checkpoint folder in the original's layout, or a file made by `liveavatar convert`")
      ->required();
  command->add_option("--gguf", options->gguf_path, "The video model's weights from a GGUF file");
  command->add_option("--lora_path_dmd,--lora_path", options->lora_path, "LoRA to check with it");
  return [options] { return info(*options); };
}

}  // namespace liveavatar::cli
