#include <malloc.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <utility>

#include "cli/commands.h"
#include "cli/field_flags.h"
#include "cli/flags.h"
#include "cli/mpi_rank.h"
#include "cli/stack.h"
#include "cli/standard_streams.h"
#include "core/boundary.h"
#include "core/memory_reserve.h"
#include "liveavatar/liveavatar.h"
#include "media/ffmpeg_log.h"
#include "media/stream_address.h"

namespace liveavatar::cli {

int report(const Status& status) {
  const std::string who = name_before_join(exit_code(status));
  std::fprintf(stderr, "liveavatar: %s%s\n", who.c_str(), in_flags(status.message()).c_str());
  return exit_code(status);
}

int exit_code(const Status& status) {
  if (status.code() == ErrorCode::kCancelled) return 130;
  return status.code() == ErrorCode::kInvalidArgument ? 2 : 1;
}

void note_host_cache() {
  std::fprintf(stderr,
               "note: --offload_kv_cache: keys and values are in host memory; with --paging_dir DIR they go to disk\n");
}

namespace {

constexpr const char* kFooter =
    "First video (no download needed):\n"
    "  liveavatar generate --ckpt_dir models/mini --image assets/demo/portrait.png \\\n"
    "    --audio assets/demo/voice.wav --prompt \"a person talks\" --size \"128*128\"\n"
    "`liveavatar COMMAND --help` explains a command.";

// "unknown flag --prmpt; did you mean --prompt?"
int unknown_arguments(const CLI::App& app, const std::vector<std::string>& extras) {
  const std::string first = without_secrets(extras.front());
  std::string message = "unknown " + std::string(first.starts_with("-") ? "flag " : "argument ") + first;
  std::string name = first.substr(0, first.find('='));
  if (name.starts_with("--")) std::replace(name.begin() + 2, name.end(), '-', '_');
  std::string guess = nearest(name, known_flags(app));
  message +=
      guess.empty() ? "; `liveavatar " + app.get_name() + " --help` lists them" : "; did you mean " + guess + "?";
  return report(invalid_argument(message));
}

int run(int argc, char** argv) {
  CLI::App app(
      "One portrait, a voice and a sentence become a talking video of any length, inside the memory you allow.",
      "liveavatar");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("liveavatar ") + version());
  std::vector<std::pair<CLI::App*, Command>> commands;
  auto add = [&](Command (*make)(CLI::App&)) {
    Command command = make(app);
    commands.emplace_back(app.get_subcommands({}).back(), std::move(command));
  };
  for (auto make : {add_generate, add_plan, add_info, add_doctor, add_sheet, add_bench, add_convert, add_serve})
    add(make);
  for (auto& [subcommand, command] : commands) {
    subcommand->allow_extras();
    check_numbers(*subcommand);
  }
  app.allow_extras();
  std::vector<std::string> args(argv + 1, argv + argc);
  const auto word =
      std::find_if(args.begin(), args.end(), [&](const std::string& arg) { return !arg.starts_with("-"); });
  const auto chosen = std::find_if(commands.begin(), commands.end(), [&](const auto& command) {
    return word != args.end() && command.first->get_name() == *word;
  });
  if (chosen != commands.end()) {
    keep_texts({word + 1, args.end()});
    auto read = read_arguments(*chosen->first, {word + 1, args.end()});
    if (!read.ok()) return report(read.status());
    for (const std::string& note : read->notes)
      if (!read->quiet && !is_other_rank()) std::fprintf(stderr, "%s\n", one_line(note).c_str());
    args.erase(word + 1, args.end());
    args.insert(args.end(), read->args.begin(), read->args.end());
  }
  if (args.empty()) {
    std::fputs(app.help().c_str(), stderr);
    return 2;
  }
  try {
    std::vector<std::string> reversed(args.rbegin(), args.rend());  // the parser's own order
    app.parse(reversed);
  } catch (const CLI::Success& e) {  // --help, --version
    return is_other_rank() ? 0 : app.exit(e);
  } catch (const CLI::ParseError& e) {
    return report(invalid_argument(without_secrets(e.what())));
  }
  for (auto& [subcommand, command] : commands) {
    if (!subcommand->parsed()) continue;
    std::vector<std::string> extras = subcommand->remaining(), behind = app.remaining();
    extras.insert(extras.end(), behind.begin(), behind.end());  // behind "--"
    std::erase(extras, "--");
    if (!extras.empty()) return unknown_arguments(*subcommand, extras);
    keep_memory_reserve(OnLack::kThrow);
    return command();
  }
  const std::string& first = args.front();
  std::string guess = nearest(first, {"generate", "plan", "info", "doctor", "sheet", "bench", "convert", "serve"});
  return report(invalid_argument("unknown command " + without_secrets(first) +
                                 (guess.empty() ? "" : "; did you mean " + guess + "?")));
}

}  // namespace
}  // namespace liveavatar::cli

namespace {

// What was printed is lost where standard output is full or gone.
int flush_output(int code) {
  bool lost = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  if (!lost || code != 0) return code;
  return liveavatar::cli::report(liveavatar::io_error("standard output cannot be written; free space or redirect it"));
}

}  // namespace

int main(int argc, char** argv) {
  liveavatar::cli::open_standard_streams();
  // Large blocks of libraries go back to the system when they are freed. Left to itself the threshold rises with every
  // such block, and a second job's lie in heaps that only grow; heaps are few, since no op allocates.
  constexpr int kLargeBytes = 64 << 10, kHeaps = 2;
  mallopt(M_MMAP_THRESHOLD, kLargeBytes);
  mallopt(M_ARENA_MAX, kHeaps);
  // The parser of flags looks names up where it cannot throw.
  liveavatar::keep_memory_reserve(liveavatar::OnLack::kRetry);
  liveavatar::silence_ffmpeg_log();
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit becomes a write error with a message
  return liveavatar::cli::with_enough_stack([&] {
    auto code = liveavatar::contained("the program",
                                      [&]() -> liveavatar::Expected<int> { return liveavatar::cli::run(argc, argv); });
    return flush_output(code.ok() ? *code : liveavatar::cli::report(code.status()));
  });
}
