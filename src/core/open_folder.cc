#include "core/open_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "core/folder.h"
#include "core/output_files.h"
#include "core/system_calls.h"

namespace liveavatar {

OpenFolder::OpenFolder(std::string path) : path_(std::move(path)) {
  constexpr int kFlags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  descriptor_ = retry_interrupted([this] { return ::open(path_.c_str(), kFlags); });
}

OpenFolder::~OpenFolder() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::string OpenFolder::path() const {
  if (descriptor_ < 0 || is_open_at(descriptor_, path_)) return path_;
  std::error_code unknown;
  const std::string now =
      std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(descriptor_), unknown).string();
  return !unknown && is_open_at(descriptor_, now) ? now : path_;
}

std::string OpenFolder::path_of(const std::string& file) const {
  const std::string now = path();
  return now == folder_of(file) ? file : now + "/" + std::filesystem::path(file).filename().string();
}

void OpenFolder::swap(OpenFolder& other) {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
}

}  // namespace liveavatar
