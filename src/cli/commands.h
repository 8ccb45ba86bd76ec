// The subcommands of `liveavatar`. Each adds itself to the app and returns what to run when it was chosen.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "core/text.h"
#include "liveavatar/status.h"

namespace liveavatar::cli {

// Exit codes: 0 done, 1 failed, 2 usage, 130 stopped by Ctrl-C.
using Command = std::function<int()>;

Command add_generate(CLI::App& app);
Command add_plan(CLI::App& app);
Command add_info(CLI::App& app);
Command add_doctor(CLI::App& app);
Command add_sheet(CLI::App& app);
Command add_bench(CLI::App& app);
Command add_convert(CLI::App& app);
Command add_serve(CLI::App& app);

// Prints "liveavatar: <message>" to stderr. Returns the error's exit code.
int report(const Status& status);
int exit_code(const Status& status);
// Says on stderr what --offload_kv_cache does without --paging_dir: nothing.
void note_host_cache();

}  // namespace liveavatar::cli
