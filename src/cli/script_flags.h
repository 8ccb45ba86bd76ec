// Flags of the Python original that have no effect here or are not supported: its scripts run unchanged, and a note
// says the effect of each flag.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "liveavatar/status.h"

namespace liveavatar::cli {

// Adds them, hidden from --help; their values are checked as the original checks them.
void add_script_flags(CLI::App& app);

// kInvalidArgument for a flag that asks for what this program does not do; the line says what to do instead.
Status check_script_flags(const CLI::App& app);

// A line for those that were given, flags with the same meaning in one line.
std::vector<std::string> explain_script_flags(const CLI::App& app);

// Whether the line was written for the original's web page, which asks for portrait and voice later.
bool is_web_page_script(const CLI::App& app);

}  // namespace liveavatar::cli
