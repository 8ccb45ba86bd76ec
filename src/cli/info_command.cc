// `liveavatar info CKPT`: which file of a folder is which part, and what is wrong with it.
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/field_flags.h"
#include "cli/manifest.h"
#include "cli/model_flags.h"
#include "pipeline/engine.h"
#include "pipeline/snapshots.h"

namespace liveavatar::cli {
namespace {

void print_part(const PartReport& part) {
  if (!part.problem.empty()) {
    std::printf("%-14s PROBLEM  %s\n", part.part.c_str(), in_flags(part.problem).c_str());
  } else if (part.tensors == 0) {
    std::printf("%-14s ok       %s\n", part.part.c_str(), one_line(part.path).c_str());
  } else {
    std::printf("%-14s ok       %lld tensors, %.1f M parameters, %.1f MB (%s)  %s\n", part.part.c_str(),
                static_cast<long long>(part.tensors), double(part.parameters) / 1e6, double(part.bytes) / 1e6,
                part.dtypes.c_str(), one_line(part.path).c_str());
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

// Any other single file: which part it is, or that it is an adapter.
int info_file(const std::string& path) {
  PartReport file = inspect_file(path);
  if (file.part.empty()) file.part = "other file";
  print_part(file);
  return file.problem.empty() ? 0 : 1;
}

void print_shape(const DitConfig& config) {
  std::printf("%-14s dim %lld, %lld heads, %lld layers, ffn %lld, audio after %zu layers\n", "shape",
              static_cast<long long>(config.dim), static_cast<long long>(config.heads),
              static_cast<long long>(config.layers), static_cast<long long>(config.ffn_dim),
              config.audio_inject_layers.size());
}

int info_snapshot(const std::string& path) {
  auto lines = describe_snapshot(path);
  if (!lines.ok()) return report(lines.status());
  for (const std::string& line : *lines) std::printf("%s\n", one_line(line).c_str());
  return 0;
}

int info(EngineOptions& options) {
  if (Status found = find_local_files(options); !found.ok()) return report(found);
  if (is_packed_file(options.checkpoint_dir)) return info_packed(options.checkpoint_dir);
  if (is_snapshot(options.checkpoint_dir)) return info_snapshot(options.checkpoint_dir);
  std::error_code ignored;
  if (std::filesystem::is_regular_file(options.checkpoint_dir, ignored)) return info_file(options.checkpoint_dir);
  bool good = true;
  for (const PartReport& part : inspect_parts(part_request(options))) {
    print_part(part);
    good = good && part.problem.empty();
  }
  auto checkpoint = Checkpoint::open(options);
  if (!checkpoint.ok()) return report(checkpoint.status());
  print_shape((*checkpoint)->shapes.dit);
  if (!good) return 1;
  // The last word: every tensor that a run needs is read, checked for shape and for NaN, and packed.
  auto models = load_models(*std::move(checkpoint));
  if (!models.ok()) return report(models.status());
  auto ids = prompt_ids(*(*models)->checkpoint, "a test");
  if (!ids.ok()) return report(ids.status());
  auto prompt = run_text_encoder(**models, ids->ids, *(*models)->budget);
  if (!prompt.ok()) return report(prompt.status());
  std::printf("%-14s every tensor is there, has its shape and finite values\n", "check");
  return 0;
}

int verify(const std::string& manifest) {
  constexpr double kBig = 1e9;  // bytes that take seconds
  const auto say = [](const std::string& line) { std::printf("%s\n", one_line(line).c_str()); };
  const auto begin = [](const std::string& name, double bytes) {
    if (bytes >= kBig) std::fprintf(stderr, "reading %s, %.1f GB\n", one_line(name).c_str(), bytes / 1e9);
  };
  const auto checked = verify_manifest(manifest, say, begin);
  if (!checked.ok()) return report(checked.status());
  std::printf("%d of %d files are as the manifest says\n", checked->files - checked->bad, checked->files);
  return checked->bad == 0 ? 0 : 1;
}

}  // namespace

Command add_info(CLI::App& app) {
  auto options = std::make_shared<EngineOptions>();
  CLI::App* command = app.add_subcommand("info", "Show what is in a checkpoint folder and what is wrong with it");
  command->footer("Examples:\n  liveavatar info models/mini\n  liveavatar info adapter.safetensors");
  auto manifest = std::make_shared<std::string>();
  CLI::Option* verified = command->add_option(
      "--verify", *manifest, "A file of sha256sum's lines: are the files beside it what it says? No CKPT then");
  CLI::Option* checkpoint =
      command
          ->add_option(
              "CKPT", options->checkpoint_dir,
              "Folder with a model, its name on the hub, or one file: a part, a LoRA, or one of `liveavatar convert`")
          ->excludes(verified);
  add_part_flags(*command, *options, "Options");
  command->callback([=] {
    if (checkpoint->count() + verified->count() == 0) throw CLI::RequiredError("CKPT");
  });
  return [options, manifest] { return manifest->empty() ? info(*options) : verify(*manifest); };
}

}  // namespace liveavatar::cli
