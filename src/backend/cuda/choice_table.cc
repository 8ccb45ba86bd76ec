#include "backend/cuda/choice_table.h"

#include <algorithm>
#include <cstdio>

#include "backend/cuda/choice_file.h"

namespace liveavatar::cuda {
namespace {

std::string milliseconds(double ms) {
  if (ms == 0) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", ms);
  return text;
}

// Left-aligned columns; the last one as long as it is.
std::string row(const std::string& what, size_t width, const std::string& own, const std::string& library,
                const std::string& chosen, const std::string& why) {
  char columns[64];
  std::snprintf(columns, sizeof columns, "  %10s  %10s  %-7s  ", own.c_str(), library.c_str(), chosen.c_str());
  return "  " + what + std::string(width - what.size(), ' ') + columns + why;
}

}  // namespace

std::vector<std::string> describe_choices(Runtime& runtime, const std::string& choice_file) {
  const Libraries libraries = runtime.open_libraries();
  if (!libraries.linear.ok()) return {"library for linear layers: none: " + libraries.linear.status().message()};
  const std::string name = (*libraries.linear)->name();
  const std::vector<LinearChoice> choices = ChoiceFile(choice_file, runtime.card(), name).read();
  std::vector<std::string> lines{"library for linear layers: " + name};
  if (choices.empty()) {
    lines.push_back("  nothing was tried out yet on this card; a job of bf16 weights does, before its first block");
    return lines;
  }
  lines.push_back("choices, kept in " + choice_file + ":");
  size_t width = 0;
  for (const LinearChoice& c : choices) width = std::max(width, c.what.size());
  lines.push_back(row("what", std::max<size_t>(width, 4), "own ms", "library ms", "chosen", "why"));
  for (const LinearChoice& c : choices)
    lines.push_back(row(c.what, std::max<size_t>(width, 4), milliseconds(c.own_ms), milliseconds(c.library_ms),
                        c.by_library ? "library" : "own", c.why));
  return lines;
}

}  // namespace liveavatar::cuda
