#include "backend/cuda/choice_file.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/errno_text.h"
#include "core/folder.h"
#include "core/json.h"
#include "core/pending_file.h"
#include "liveavatar/version.h"

namespace liveavatar::cuda {
namespace {

constexpr int64_t kFormat = 1;
constexpr size_t kMostBytes = size_t{1} << 20;
constexpr double kMostMs = 1e9;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// {"format": 1, "cards": [{"card": ..., "made_by": ..., "linear": [...]}]}, a table for each card and kind; of anything
// else no tables.
nlohmann::json read_tables(const std::string& path) {
  const nlohmann::json none = nlohmann::json::array();
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return none;  // nothing to wait for, as a pipe would be
  std::ifstream file(path, std::ios::binary);
  std::string text(kMostBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.empty() || text.size() > kMostBytes) return none;
  const Expected<nlohmann::json> json = parse_json(text, path);
  if (!json.ok()) return none;
  JsonReader reader(*json, path);
  const bool is_ours = reader.number("format", 0, kFormat) == kFormat && reader.status().ok();
  if (!is_ours || !reader.at("cards").is_array()) return none;
  return reader.at("cards");
}

std::vector<LibraryChoice> read_choices(const nlohmann::json& list, const std::string& path) {
  std::vector<LibraryChoice> choices;
  for (const nlohmann::json& json : list) {
    JsonReader reader(json, path);
    LibraryChoice choice;
    choice.what = reader.text("what", "");
    choice.by_library = reader.flag("by_library", false);
    choice.own_ms = reader.real("own_ms", 0, kMostMs);
    choice.library_ms = reader.real("library_ms", 0, kMostMs);
    choice.why = reader.text("why", "");
    if (!reader.status().ok()) return {};
    choices.push_back(std::move(choice));
  }
  return choices;
}

nlohmann::json to_json(const std::vector<LibraryChoice>& choices) {
  nlohmann::json list = nlohmann::json::array();
  for (const LibraryChoice& c : choices) {
    list.push_back({{"what", c.what},
                    {"by_library", c.by_library},
                    {"own_ms", c.own_ms},
                    {"library_ms", c.library_ms},
                    {"why", c.why}});
  }
  return list;
}

bool has_text(const nlohmann::json& table, const char* key, const std::string& text) {
  return table.is_object() && table.contains(key) && table.at(key) == text;
}

}  // namespace

std::string default_choice_file() {
  const std::string cache = environment("XDG_CACHE_HOME"), home = environment("HOME");
  if (!cache.empty()) return cache + "/liveavatar/choices.json";
  return home.empty() ? "" : home + "/.cache/liveavatar/choices.json";
}

ChoiceFile::ChoiceFile(std::string path, const Card& card, std::string kind, const std::string& library)
    : path_(std::move(path)),
      card_(card.name + ", sm_" + std::to_string(card.compute_capability)),
      kind_(std::move(kind)),
      made_by_("driver for CUDA " + card.driver + ", " + library + ", liveavatar " LIVEAVATAR_VERSION_STRING) {}

std::vector<LibraryChoice> ChoiceFile::read() const {
  if (path_.empty()) return {};
  for (const nlohmann::json& table : read_tables(path_)) {
    const bool is_this = has_text(table, "card", card_) && has_text(table, "made_by", made_by_);
    if (is_this && table.contains(kind_)) return read_choices(table.at(kind_), path_);
  }
  return {};
}

Status ChoiceFile::add(const std::vector<LibraryChoice>& choices) const {
  if (path_.empty()) return {};
  std::vector<LibraryChoice> all = choices;
  for (const LibraryChoice& old : read()) {
    const bool is_new =
        std::any_of(choices.begin(), choices.end(), [&](const LibraryChoice& c) { return c.what == old.what; });
    if (!is_new) all.push_back(old);
  }
  nlohmann::json cards = nlohmann::json::array();
  for (const nlohmann::json& table : read_tables(path_))
    if (!has_text(table, "card", card_) || !table.contains(kind_)) cards.push_back(table);
  cards.push_back({{"card", card_}, {"made_by", made_by_}, {kind_, to_json(all)}});
  const std::string text = json_text(nlohmann::json{{"format", kFormat}, {"cards", cards}}, 2) + "\n";
  std::error_code error;
  std::filesystem::create_directories(folder_of(path_), error);
  if (error) return io_error(path_ + ": its folder cannot be made (" + error.message() + ")");
  LA_ASSIGN_OR_RETURN(PendingFile file, PendingFile::open(path_, PendingFile::Busy::kRefuse));
  const ssize_t written = ::write(file.descriptor(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size()))
    return io_error(path_ + ": not written " + errno_text(errno, "make room"));
  return file.commit();
}

}  // namespace liveavatar::cuda
