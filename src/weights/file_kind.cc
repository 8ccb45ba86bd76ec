#include "weights/file_kind.h"

#include <algorithm>
#include <string>

#include "core/json.h"
#include "core/text.h"

namespace liveavatar {
namespace {

constexpr uint64_t kHeadBytes = 512, kMaxJsonBytes = 64u << 20;

// The first bytes in lower case, without a prefix that a web page may have.
std::string head_of(const File& file) {
  std::string head(std::min(file.bytes(), kHeadBytes), '\0');
  if (!file.read(0, head.data(), head.size()).ok()) return "";
  if (head.starts_with("\xef\xbb\xbf")) head.erase(0, 3);
  head.erase(0, std::min(head.find_first_not_of(" \t\r\n"), head.size()));
  return lower_case(head);
}

}  // namespace

Status explain_wrong_file(const File& file) {
  if (file.bytes() == 0) return corrupt(file.path() + ": the file is empty (0 bytes); download or copy it again");
  const std::string head = head_of(file);
  if (head.starts_with("version https://git-lfs")) {
    return corrupt(file.path() +
                   ": a Git LFS pointer, not the file itself; run `git lfs pull` there, or download the file");
  }
  bool page = head.starts_with("<!doctype html") || head.starts_with("<html") || head.starts_with("<head") ||
              (head.starts_with("<?xml") && head.find("<html") != std::string::npos) ||
              (head.starts_with("<!--") && head.find("<html") != std::string::npos);
  if (page) {
    return corrupt(file.path() +
                   ": a web page (HTML), not the file itself; download it again, from its direct link and logged in");
  }
  return {};
}

Expected<nlohmann::json> read_json_file(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::open(path));
  LA_RETURN_IF_ERROR(explain_wrong_file(*file));
  if (file->bytes() > kMaxJsonBytes)
    return corrupt(path + ": " + std::to_string(file->bytes()) +
                   " bytes are too many for JSON; download or copy the file again");
  std::string text(file->bytes(), '\0');
  LA_RETURN_IF_ERROR(file->read(0, text.data(), text.size()));
  return parse_json(text, path);
}

}  // namespace liveavatar
