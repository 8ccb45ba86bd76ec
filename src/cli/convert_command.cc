// `liveavatar convert`: the video model of a checkpoint folder in one file, packed for paging.
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/field_flags.h"
#include "cli/flags.h"
#include "cli/job_files.h"
#include "cli/model_flags.h"
#include "cli/progress.h"
#include "cli/stop_signal.h"
#include "core/status.h"
#include "paging/direct_file.h"
#include "session/checkpoint.h"

namespace liveavatar::cli {
namespace {

struct Flags {
  EngineOptions engine;
  std::string out;
  bool quiet = false;
};

constexpr const char* kFooter =
    "Example:\n"
    "  liveavatar convert --ckpt_dir ckpt/Wan2.2-S2V-14B --lora_path_dmd ckpt/Live-Avatar --out s2v.packed\n"
    "  liveavatar generate --ckpt_dir ckpt/Wan2.2-S2V-14B --dit s2v.packed --memory_budget 16GiB ...\n"
    "  liveavatar convert --ckpt_dir ckpt/Wan2.2-S2V-14B --gguf s2v-Q8_0.gguf --weights_dtype int8 --out s2v.packed\n"
    "A file with --weights_dtype is read with the same flag.\n"
    "The file fits the kernels of the machine that made it; another kind of CPU refuses it and needs its own.";

Status resolve_flags(EngineOptions& engine) {
  LA_RETURN_IF_ERROR(find_local_files(engine));
  if (!engine.packed_dit.empty())
    return invalid_argument(
        "--dit " + engine.packed_dit +
        ": was made by `liveavatar convert` already; give it to generate, or the original file here");
  if (engine.checkpoint_dir.empty() && engine.dit_path.empty())
    return invalid_argument("--ckpt_dir or --dit is required: the video model to convert");
  return {};
}

int convert(Flags& f) {
  StopSignal stop("nothing is kept of the file");
  if (Status resolved = resolve_flags(f.engine); !resolved.ok()) return report(resolved);
  std::vector<NamedPath> inputs;
  add_engine_inputs(inputs, f.engine);
  if (Status files = check_outputs(inputs, {{"--out", f.out}}); !files.ok()) return report(files);
  if (Status kind = check_replaces_packed({"--out", f.out}); !kind.ok()) return report(kind);
  auto claim = OutputClaim::acquire({"--out", f.out});
  if (!claim.ok()) return report(claim.status());
  LiveLine line(f.quiet);
  ConvertCalls calls;
  calls.say = [&](const std::string& note) {
    if (!f.quiet) std::fprintf(stderr, "note: %s\n", in_flags(note).c_str());
  };
  calls.progress = [&](uint64_t bytes, uint64_t of_bytes) {
    if (!line.is_fresh()) line.show(f.out + ": " + gb_text(bytes) + " of " + gb_text(of_bytes));
    return !StopSignal::requested();
  };
  Status status = convert_dit(f.engine, f.out, calls);
  if (status.ok()) line.show(f.out + ": done", true);
  line.finish();
  return status.ok() ? 0 : report(status);
}

}  // namespace

Command add_convert(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  EngineOptions& engine = flags->engine;
  CLI::App* command = app.add_subcommand("convert", "Write a checkpoint's video model into one file made for paging");
  command->footer(kFooter);
  command->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add_model_flags(*command, engine, "Options");
  command->add_option("--out", flags->out, "The file to write")->required();
  command->add_option("--device", engine.device, "cpu, cuda or reference: the backend that will read it")
      ->capture_default_str();
  add_dtype(*command, engine.dtype);
  add_weights_dtype(*command, engine.weights_dtype);
  command->add_flag("--quiet", flags->quiet, "Print errors only");
  return [flags] { return convert(*flags); };
}

}  // namespace liveavatar::cli
