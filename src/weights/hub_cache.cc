#include "weights/hub_cache.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string_view>
#include <vector>

#include "core/folder.h"
#include "weights/file_kind.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kRepoPrefix = "models--", kSeparator = "--";

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  std::string text = value == nullptr ? "" : value;
  const char* home = std::getenv("HOME");
  if (text.starts_with("~/") && home != nullptr) text = home + text.substr(1);
  return text;
}

// A name on the hub, and a file in it.
struct HubName {
  std::string repo;  // org/name; empty: this is none
  std::string name;
  std::string file;  // empty: the whole repository
};

bool is_component(std::string_view text) {
  auto fits = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-' || c == '.'; };
  return !text.empty() && text.front() != '.' && text.front() != '-' && std::all_of(text.begin(), text.end(), fits);
}

HubName parse_name(std::string path) {
  while (path.ends_with("/")) path.pop_back();
  size_t first = path.find('/');
  if (first == std::string::npos) return {};
  size_t second = std::min(path.find('/', first + 1), path.size());
  std::string org = path.substr(0, first), name = path.substr(first + 1, second - first - 1);
  if (!is_component(org) || !is_component(name)) return {};
  std::string file = second < path.size() ? path.substr(second + 1) : "";
  for (const fs::path& step : fs::path(file)) {
    if (step == "..") return {};
  }
  return {org + "/" + name, name, file};
}

// What the original's guide calls its folders, by the last step of a path.
std::string known_repo(const std::string& path) {
  std::string last = path;
  while (last.ends_with("/")) last.pop_back();
  last = fs::path(last).filename().string();
  if (last == "Wan2.2-S2V-14B") return "Wan-AI/Wan2.2-S2V-14B";
  if (last == "Live-Avatar" || last == "LiveAvatar") return "Quark-Vision/Live-Avatar";
  return "";
}

std::string command(const HubName& hub) { return "hf download " + hub.repo + (hub.file.empty() ? "" : " " + hub.file); }

std::string first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back()))) line.pop_back();
  return line;
}

// Empty: the repository has none.
fs::path newest_snapshot(const fs::path& repo) {
  fs::path newest;
  fs::file_time_type when{};
  std::error_code ignored;
  for (const fs::path& entry : folder_entries(repo / "snapshots")) {
    if (!fs::is_directory(entry, ignored)) continue;
    fs::file_time_type changed = fs::last_write_time(entry, ignored);
    if (!newest.empty() && changed <= when) continue;
    newest = entry;
    when = changed;
  }
  return newest;
}

Expected<fs::path> snapshot_of(const fs::path& repo, const std::string& where, const HubName& hub) {
  std::string hash = first_line(repo / "refs" / "main");
  fs::path snapshot = hash.empty() ? newest_snapshot(repo) : repo / "snapshots" / hash;
  if (!snapshot.empty() && may_exist(snapshot)) return snapshot;
  std::string lacks = hash.empty() ? "holds no snapshot" : "lacks the snapshot " + hash + ", which refs/main names";
  return not_found(where + ": " + repo.string() + " " + lacks + "; download it again: " + command(hub));
}

// The shards that an index names and that are not beside it; files whose blob is gone. "" : the snapshot is whole.
std::string missing_file(const fs::path& snapshot) {
  std::error_code ignored;
  std::set<std::string> missing;
  for (const fs::path& path : entries_below(snapshot)) {
    if (fs::is_symlink(path, ignored) && !may_exist(path) && path.extension() != ".md")
      missing.insert(path.lexically_relative(snapshot));
    if (!path.string().ends_with(".index.json") || !may_exist(path)) continue;
    auto index = read_json_file(path.string());
    if (!index.ok() || !index->is_object() || !index->contains("weight_map") || !(*index)["weight_map"].is_object())
      continue;
    for (const auto& [tensor, file] : (*index)["weight_map"].items()) {
      if (file.is_string() && !may_exist(path.parent_path() / file.get<std::string>()))
        missing.insert((path.parent_path() / file.get<std::string>()).lexically_relative(snapshot));
    }
  }
  return missing.empty() ? "" : *missing.begin();
}

}  // namespace

std::string hub_cache_folder() {
  if (std::string cache = environment("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (std::string home = environment("HF_HOME"); !home.empty()) return home + "/hub";
  if (std::string cache = environment("XDG_CACHE_HOME"); !cache.empty()) return cache + "/huggingface/hub";
  std::string home = environment("HOME");
  return home.empty() ? "" : home + "/.cache/huggingface/hub";
}

Expected<std::string> find_local(const std::string& flag, const std::string& path) {
  if (path.empty() || may_exist(path)) return path;
  const std::string where = flag + " " + path;
  // A typing error in a path, not a name on the hub: "ckpt/Wan2.2" where ckpt is a folder here.
  const fs::path parent = fs::path(path).parent_path();
  if (parent.has_relative_path() && may_exist(parent) && known_repo(path).empty())
    return not_found(where + ": no such file or folder in " + parent.string() + "; correct the name");
  HubName hub = parse_name(path);
  fs::path cache = hub_cache_folder();
  fs::path repo;
  if (!hub.repo.empty() && !cache.empty()) {
    std::string folder = std::string(kRepoPrefix) + hub.repo;
    folder.replace(folder.find('/'), 1, kSeparator);
    repo = cache / folder;
  }
  if (repo.empty() || !may_exist(repo)) {
    std::string known = known_repo(path);
    if (!known.empty() && known != hub.repo)
      return not_found(where + ": no such folder; download it there: hf download " + known + " --local-dir " + path);
    if (hub.repo.empty()) return path;  // whoever opens it says what it lacks
    std::string local = "ckpt/" + hub.name;
    return not_found(where + ": no such file or folder here, and not in the Hugging Face cache " + cache.string() +
                     "; download it: " + command(hub) + " (or " + command(hub) + " --local-dir " + local + " and " +
                     flag + " " + local + (hub.file.empty() ? "" : "/" + hub.file) + ")");
  }
  LA_ASSIGN_OR_RETURN(fs::path snapshot, snapshot_of(repo, where, hub));
  if (!hub.file.empty()) {
    if (may_exist(snapshot / hub.file)) return (snapshot / hub.file).string();
    return not_found(where + ": " + hub.file + " is missing in the snapshot " + snapshot.string() +
                     "; download it: " + command(hub));
  }
  std::string missing = missing_file(snapshot);
  if (missing.empty()) return snapshot.string();
  return not_found(where + ": the download in " + snapshot.string() + " is incomplete: " + missing +
                   " is missing; complete it: " + command(hub));
}

std::string download_command(const std::string& path) {
  fs::path step = path;
  for (; step.has_relative_path(); step = step.parent_path()) {
    std::string name = step.filename().string();
    if (!name.starts_with(kRepoPrefix)) continue;
    std::string repo = name.substr(kRepoPrefix.size());
    size_t separator = repo.find(kSeparator);
    if (separator == std::string::npos) continue;
    return "hf download " + repo.replace(separator, kSeparator.size(), "/");
  }
  return "";
}

}  // namespace liveavatar
