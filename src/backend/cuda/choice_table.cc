#include "backend/cuda/choice_table.h"

#include <algorithm>
#include <cstdio>

#include "backend/cuda/choice_file.h"
#include "backend/cuda/library_ops.h"

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

void add_rows(const std::vector<LibraryChoice>& choices, std::vector<std::string>& lines) {
  size_t width = 4;
  for (const LibraryChoice& c : choices) width = std::max(width, c.what.size());
  lines.push_back(row("what", width, "own ms", "library ms", "chosen", "why"));
  for (const LibraryChoice& c : choices)
    lines.push_back(row(c.what, width, milliseconds(c.own_ms), milliseconds(c.library_ms),
                        c.by_library ? "library" : "own", c.why));
}

template <typename Kind>
void add_kind(Runtime& runtime, const std::string& choice_file, std::vector<std::string>& lines) {
  const std::string what = std::string("library for ") + Kind::kName + ": ";
  const Expected<std::unique_ptr<typename Kind::Library>> library = Kind::open(runtime);
  if (!library.ok()) {
    lines.push_back(what + "none: " + library.status().message());
    return;
  }
  const std::string name = (*library)->name();
  const std::vector<LibraryChoice> choices = ChoiceFile(choice_file, runtime.card(), Kind::kKey, name).read();
  lines.push_back(what + name);
  if (choices.empty()) {
    lines.push_back("  nothing was tried out yet on this card; a job of bf16 weights does, before its first block");
    return;
  }
  lines.push_back("choices, kept in " + choice_file + ":");
  add_rows(choices, lines);
}

}  // namespace

std::vector<std::string> describe_choices(Runtime& runtime, const std::string& choice_file) {
  std::vector<std::string> lines;
  add_kind<LinearKind>(runtime, choice_file, lines);
  add_kind<ConvKind>(runtime, choice_file, lines);
  return lines;
}

}  // namespace liveavatar::cuda
