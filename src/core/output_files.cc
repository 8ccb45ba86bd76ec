#include "core/output_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

#include "core/folder.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

// What makes two names one file. A file that is not there yet is its folder and its name in it.
struct Identity {
  dev_t device = 0;
  ino_t inode = 0;
  std::string name;
  bool operator==(const Identity& other) const = default;
};

std::optional<Identity> identity_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) {
    if (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode)) return {};
    return Identity{info.st_dev, info.st_ino, ""};
  }
  std::string target = follow_links(path);
  if (::stat(folder_of(target).string().c_str(), &info) != 0) return {};
  return Identity{info.st_dev, info.st_ino, fs::path(target).filename().string()};
}

std::string shown(const NamedPath& file) { return file.flag.empty() ? file.path : file.flag + " " + file.path; }

}  // namespace

Status write_failed(const NamedPath& output, int error) {
  const std::string folder = folder_of(follow_links(output.path)).string();
  std::error_code ignored;
  if (error == ENOENT && !fs::exists(folder, ignored))
    return io_error(shown(output) + ": the folder " + folder + " is not there; make it, or choose another place");
  return io_error(shown(output) + ": cannot be written (" + std::strerror(error) + "); choose another place");
}

std::string follow_links(const std::string& path) {
  constexpr int kMostLinks = 40;
  fs::path target = path;
  std::error_code error;
  for (int i = 0; i < kMostLinks; ++i) {
    fs::path next = fs::read_symlink(target, error);
    if (error) break;
    target = target.parent_path() / next;
  }
  return target.string();
}

Status check_outputs(const std::vector<NamedPath>& inputs, const std::vector<NamedPath>& outputs) {
  std::vector<std::optional<Identity>> read, written;
  for (const NamedPath& input : inputs) read.push_back(identity_of(input.path));
  for (const NamedPath& output : outputs) {
    std::optional<Identity> file = identity_of(output.path);
    for (size_t i = 0; file && i < inputs.size(); ++i) {
      if (read[i] == file) {
        return invalid_argument(shown(output) + ": is the same file as " + shown(inputs[i]) +
                                ", which would be lost; choose another name");
      }
    }
    for (size_t i = 0; file && i < written.size(); ++i) {
      if (written[i] == file)
        return invalid_argument(shown(output) + ": is the same file as " + shown(outputs[i]) + "; choose another name");
    }
    written.push_back(file);
  }
  return {};
}

Lock try_lock(int descriptor) {
  while (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    return errno == EWOULDBLOCK ? Lock::kBusy : Lock::kNone;
  }
  return Lock::kTaken;
}

bool is_open_at(int descriptor, const std::string& path) {
  struct stat open_file {};
  struct stat named {};
  return ::fstat(descriptor, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

Expected<OutputClaim> OutputClaim::take(const NamedPath& output) {
  OutputClaim claim;
  claim.output_ = output;
  if (output.path.empty()) return invalid_argument(output.flag + ": give the name of a file");
  // A claim that ends may remove the file between the two calls: then it is made again.
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; ++i) {
    struct stat info {};
    bool there = ::stat(output.path.c_str(), &info) == 0;
    if (there && S_ISDIR(info.st_mode)) return io_error(shown(output) + ": is a folder; give the name of a file in it");
    if (there && !S_ISREG(info.st_mode)) return claim;  // opening a pipe would wait for its reader
    if (!there) claim.output_.path = follow_links(output.path);
    claim.made_ = !there;
    // A pipe may have come between: it is not waited for, and looked at again.
    claim.descriptor_ = ::open(claim.output_.path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    if (claim.descriptor_ < 0 && errno == ENXIO) continue;
    if (claim.descriptor_ < 0) return write_failed(output, errno);
    if (try_lock(claim.descriptor_) == Lock::kBusy) {
      claim.made_ = false;
      return io_error(shown(output) + ": another job writes to it; wait for that, or choose another name");
    }
    if (is_open_at(claim.descriptor_, output.path)) return claim;
    ::close(claim.descriptor_);
    claim.descriptor_ = -1;
  }
  return io_error(shown(output) + ": other jobs keep removing it; choose another name");
}

Status OutputClaim::write(const std::string& text) {
  const std::string whole = text + "\n";
  int descriptor = descriptor_;
  if (descriptor < 0) descriptor = ::open(output_.path.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return write_failed(output_, errno);
  bool good = descriptor != descriptor_ || ::ftruncate(descriptor, 0) == 0;
  for (size_t done = 0; good && done < whole.size();) {
    ssize_t put = ::write(descriptor, whole.data() + done, whole.size() - done);
    if (put < 0 && errno == EINTR) continue;
    good = put > 0;
    if (good) done += static_cast<size_t>(put);
  }
  int error = errno;
  if (descriptor != descriptor_) ::close(descriptor);
  return good ? Status() : write_failed(output_, error);
}

void OutputClaim::remove_if_empty() const {
  struct stat info {};
  if (descriptor_ >= 0 && made_ && ::fstat(descriptor_, &info) == 0 && info.st_size == 0)
    ::unlink(output_.path.c_str());
}

OutputClaim::~OutputClaim() {
  if (descriptor_ < 0) return;
  if (is_open_at(descriptor_, output_.path)) remove_if_empty();
  ::close(descriptor_);
}

void OutputClaim::swap(OutputClaim& other) {
  std::swap(output_, other.output_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(made_, other.made_);
}

Status check_writable_folder(const NamedPath& folder) {
  std::error_code ignored;
  if (fs::exists(folder.path, ignored) && !fs::is_directory(folder.path, ignored))
    return invalid_argument(shown(folder) + ": is a file; give a folder");
  if (!fs::is_directory(folder.path, ignored))
    return not_found(shown(folder) + ": no such folder; make it, or choose another");
  if (::access(folder.path.c_str(), W_OK | X_OK) != 0)
    return io_error(shown(folder) + ": files cannot be made there (" + std::strerror(errno) + "); choose another");
  return {};
}

}  // namespace liveavatar
