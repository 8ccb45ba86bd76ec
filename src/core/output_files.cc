#include "core/output_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "core/errno_text.h"
#include "core/folder.h"
#include "core/pending_file.h"
#include "core/system_calls.h"

namespace liveavatar {
namespace {

constexpr int kMostLinks = 40;  // symbolic links in a row

namespace fs = std::filesystem;

// Identity of a file behind its names. A file that does not exist yet is its folder and its name in that folder.
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

// Also for reading if that is allowed: the end of a video file is made from its written part.
int open_output(const std::string& path, int flags) {
  flags |= O_CREAT | O_CLOEXEC | O_NONBLOCK;
  auto open = [&](int access) { return retry_interrupted([&] { return ::open(path.c_str(), access | flags, 0666); }); };
  int descriptor = open(O_RDWR);
  return descriptor < 0 && errno == EACCES ? open(O_WRONLY) : descriptor;
}

// The process's own open file that the path leads to, as /dev/stdout and /dev/fd/3 do; -1: none. Opened by the path it
// would be written from its beginning, over what the process has already written.
int own_descriptor(const std::string& path) {
  const std::string own = "/proc/" + std::to_string(::getpid()) + "/fd";
  fs::path target = path;
  std::error_code error;
  for (int i = 0; i < kMostLinks && !error; ++i) {
    if (fs::weakly_canonical(folder_of(target), error) == own) return std::atoi(target.filename().c_str());
    target = target.parent_path() / fs::read_symlink(target, error);
  }
  return -1;
}

// 0, or errno. At the file's own offset.
int write_text(int descriptor, const std::string& text) { return write_all(descriptor, text.data(), text.size()); }

// 0, or errno. Room is taken before a byte of the old content is lost.
int write_over(int descriptor, const std::string& text) {
  const auto bytes = static_cast<off_t>(text.size());
  const bool taken = retry_interrupted([&] { return ::fallocate(descriptor, 0, 0, bytes); }) == 0;
  if (!taken && errno != EOPNOTSUPP && errno != ENOSYS) return errno;
  if (::lseek(descriptor, 0, SEEK_SET) < 0) return errno;
  if (int error = write_text(descriptor, text); error != 0) return error;
  return retry_interrupted([&] { return ::ftruncate(descriptor, bytes); }) == 0 ? 0 : errno;
}

// Whether a new file in its folder may take the name of this one.
bool can_be_replaced(const std::string& path, const struct stat& file) {
  const std::string folder = folder_of(path).string();
  struct stat info {};
  if (::access(folder.c_str(), W_OK | X_OK) != 0 || ::stat(folder.c_str(), &info) != 0) return false;
  const uid_t self = ::geteuid();
  const bool others = (info.st_mode & S_ISVTX) != 0 && self != 0 && self != info.st_uid && self != file.st_uid;
  const size_t name_bytes = fs::path(path).filename().string().size() + std::strlen(PendingFile::kEnding);
  return !others && name_bytes <= NAME_MAX;
}

std::string shown(const NamedPath& file) { return file.flag.empty() ? file.path : file.flag + " " + file.path; }

}  // namespace

Status write_failed(const NamedPath& output, int error) {
  const std::string folder = folder_of(follow_links(output.path)).string();
  std::error_code ignored;
  if (error == ENOENT && !fs::exists(folder, ignored))
    return io_error(shown(output) + ": the folder " + folder + " is not there; make it, or choose another place");
  return io_error(shown(output) + ": cannot be written " + errno_text(error, "choose another place"));
}

std::string follow_links(const std::string& path) {
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
  if (retry_interrupted([&] { return ::flock(descriptor, LOCK_EX | LOCK_NB); }) == 0) return Lock::kTaken;
  return errno == EWOULDBLOCK ? Lock::kBusy : Lock::kNone;
}

bool is_open_at(int descriptor, const std::string& path) {
  struct stat open_file {};
  struct stat named {};
  return ::fstat(descriptor, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

OutputClaim::OutputClaim() = default;
OutputClaim::OutputClaim(OutputClaim&& other) noexcept { swap(other); }

Expected<OutputClaim> OutputClaim::acquire(const NamedPath& output) {
  OutputClaim claim;
  claim.output_ = output;
  if (output.path.empty()) return invalid_argument(output.flag + ": give the name of a file");
  // A claim that ends may remove the file between the two calls. Then try again.
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; ++i) {
    struct stat info {};
    bool there = ::stat(output.path.c_str(), &info) == 0;
    if (there && S_ISDIR(info.st_mode)) return io_error(shown(output) + ": is a folder; give the name of a file in it");
    if (there && !S_ISREG(info.st_mode)) {
      LA_RETURN_IF_ERROR(claim.open_device());
      return claim;
    }
    if (!there) claim.output_.path = follow_links(output.path);
    claim.made_ = !there;
    claim.folder_ = OpenFolder(folder_of(claim.output_.path).string());
    // A pipe may have replaced the file: do not block, try again.
    claim.descriptor_ = open_output(claim.output_.path, 0);
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

Expected<OutputClaim> OutputClaim::temporary(const std::string& folder, const std::string& name) {
  OutputClaim claim;
  claim.output_.path = folder + "/" + name;
  claim.temporary_ = true;
  claim.descriptor_ = retry_interrupted([&] { return ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600); });
  if (claim.descriptor_ >= 0) return claim;
  // Not every file system has files without a name.
  std::string path = folder + "/liveavatar-XXXXXX";
  claim.descriptor_ = ::mkostemp(path.data(), O_CLOEXEC);
  if (claim.descriptor_ < 0) return write_failed(claim.output_, errno);
  ::unlink(path.c_str());
  return claim;
}

// Without waiting for the reader of a pipe.
Status OutputClaim::open_device() {
  if (device_ >= 0) return {};
  if (int own = own_descriptor(output_.path); own >= 0) {
    device_ = ::fcntl(own, F_DUPFD_CLOEXEC, 0);
    return device_ < 0 ? write_failed(output_, errno) : Status();
  }
  device_ = retry_interrupted([this] { return ::open(output_.path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK); });
  struct stat info {};
  if (device_ < 0 && errno == ENXIO && ::stat(output_.path.c_str(), &info) == 0 && S_ISFIFO(info.st_mode))
    return io_error(shown(output_) + ": is a pipe that nothing reads; start its reader first");
  if (device_ < 0) return write_failed(output_, errno);
  const int flags = ::fcntl(device_, F_GETFL);
  return ::fcntl(device_, F_SETFL, flags & ~O_NONBLOCK) == 0 ? Status() : write_failed(output_, errno);
}

Status OutputClaim::write(const std::string& text) {
  const std::string whole = text + "\n";
  const int own = own_descriptor(output_.path);
  if (own < 0 && descriptor_ >= 0) return replace_content(whole);
  std::fflush(nullptr);  // what was printed there comes first
  if (own < 0) LA_RETURN_IF_ERROR(open_device());
  const int error = write_text(own < 0 ? device_ : own, whole);
  return error == 0 ? Status() : write_failed(output_, error);
}

Status OutputClaim::replace_content(const std::string& whole) {
  LA_RETURN_IF_ERROR(hold_name());
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0) return write_failed(output_, errno);
  // A file with several names keeps them.
  if (info.st_size > 0 && info.st_nlink == 1) LA_RETURN_IF_ERROR(open_beside());
  if (pending_ == nullptr) {
    int error = roomy().retry(whole.size(), [&] { return write_over(descriptor_, whole); });
    if (error == 0 && sync_file(descriptor_) != 0) error = errno;
    if (error == 0) return {};
    // A new file without all of its content is none.
    [[maybe_unused]] int emptied = info.st_size == 0 ? ::ftruncate(descriptor_, 0) : 0;
    return write_failed(output_, error);
  }
  const int error = roomy().write_all(pending_->descriptor(), whole.data(), whole.size());
  if (error == 0) return publish();
  pending_name_ = nullptr;
  pending_.reset();
  return write_failed(output_, error);
}

Status OutputClaim::hold_name() {
  if (descriptor_ < 0 || holds_name()) return {};
  int fresh = open_output(place(), O_EXCL);
  if (fresh < 0 && errno == EEXIST)
    return io_error(shown(output_) + ": another file took this name while the job ran, and is kept; choose another");
  if (fresh < 0) return write_failed(output_, errno);
  if (try_lock(fresh) == Lock::kBusy) {
    ::close(fresh);
    return io_error(shown(output_) + ": another job writes to it; wait for that, or choose another name");
  }
  ::close(std::exchange(descriptor_, fresh));
  made_ = true;
  return {};
}

std::string OutputClaim::place() const {
  const bool stays = descriptor_ < 0 || temporary_;
  return stays ? output_.path : folder_.path_of(output_.path);
}

bool OutputClaim::holds_name() const { return temporary_ || is_open_at(descriptor_, place()); }

Status OutputClaim::open_beside() {
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0) return write_failed(output_, errno);
  const std::string path = place();
  if (!can_be_replaced(follow_links(path), info)) return {};
  LA_ASSIGN_OR_RETURN(PendingFile pending, PendingFile::open(path, PendingFile::Busy::kRefuse, {}, room_));
  pending_ = std::make_unique<PendingFile>(std::move(pending));
  pending_name_ = pending_->partial().c_str();
  // Best effort: the file may belong to another user.
  [[maybe_unused]] int owned = ::fchown(pending_->descriptor(), info.st_uid, info.st_gid);
  [[maybe_unused]] int kept = ::fchmod(pending_->descriptor(), info.st_mode & 0777);
  return {};
}

Expected<int> OutputClaim::begin() {
  if (descriptor_ < 0) {
    LA_RETURN_IF_ERROR(open_device());
    return device_;
  }
  LA_RETURN_IF_ERROR(hold_name());
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0) return write_failed(output_, errno);
  if (info.st_size == 0) return descriptor_;
  if (!temporary_) LA_RETURN_IF_ERROR(open_beside());
  if (pending_ != nullptr) return pending_->descriptor();
  if (retry_interrupted([this] { return ::ftruncate(descriptor_, 0); }) != 0 || ::lseek(descriptor_, 0, SEEK_SET) < 0)
    return write_failed(output_, errno);
  return descriptor_;
}

Expected<int> OutputClaim::reopen(int64_t bytes) {
  if (descriptor_ < 0) return io_error(shown(output_) + ": is no regular file, so it cannot be gone on with");
  if (static_cast<int64_t>(this->bytes()) >= bytes) return descriptor_;
  return corrupt(shown(output_) + ": is shorter than it was at its snapshot; it was changed since, make it anew");
}

// The head first: with it the file plays on, whatever comes in between.
Status OutputClaim::cut(int64_t bytes, const std::string& head) {
  if (const int error = roomy().write_all_at(descriptor_, head.data(), head.size(), 0); error != 0)
    return write_failed(output_, error);
  if (sync_file(descriptor_) != 0) return write_failed(output_, errno);
  const bool shorter = retry_interrupted([&] { return ::ftruncate(descriptor_, bytes); }) == 0;
  return shorter ? Status() : write_failed(output_, errno);
}

size_t OutputClaim::bytes() const {
  struct stat info {};
  return ::fstat(descriptor_, &info) == 0 ? static_cast<size_t>(info.st_size) : 0;
}

Status OutputClaim::publish() {
  if (pending_ == nullptr) return {};
  if (!holds_name())
    return io_error(shown(output_) +
                    ": was moved or replaced while the job ran; what is there now is kept; choose another name");
  pending_name_ = nullptr;
  LA_ASSIGN_OR_RETURN(int published, pending_->publish());
  ::close(std::exchange(descriptor_, published));
  pending_.reset();
  return {};
}

Status OutputClaim::sync() const {
  return descriptor_ < 0 || sync_file(descriptor_) == 0 ? Status() : write_failed(output_, errno);
}

Status OutputClaim::check_name() const {
  if (descriptor_ < 0 || (holds_name() && place() == output_.path)) return {};
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0 || info.st_nlink == 0)
    return io_error(shown(output_) + ": was removed while the job ran, and what it wrote with it; run it again");
  std::error_code unknown;
  fs::path now = fs::read_symlink("/proc/self/fd/" + std::to_string(descriptor_), unknown);
  return io_error(shown(output_) + ": was moved while the job ran; what it wrote is whole" +
                  (unknown ? ", in the file that was moved" : " and is " + now.string()));
}

void OutputClaim::remove_unused() const {
  if (const char* partial = pending_name_; partial != nullptr) ::unlink(partial);
  struct stat info {};
  if (descriptor_ >= 0 && made_ && ::fstat(descriptor_, &info) == 0 && info.st_size == 0 &&
      is_open_at(descriptor_, output_.path))
    ::unlink(output_.path.c_str());
}

OutputClaim::~OutputClaim() {
  pending_name_ = nullptr;
  if (device_ >= 0) ::close(device_);
  if (descriptor_ < 0) return;
  remove_unused();
  pending_.reset();  // before the lock on the name goes
  ::close(descriptor_);
}

void OutputClaim::swap(OutputClaim& other) {
  std::swap(output_, other.output_);
  std::swap(folder_, other.folder_);
  std::swap(room_, other.room_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(device_, other.device_);
  std::swap(made_, other.made_);
  std::swap(temporary_, other.temporary_);
  std::swap(pending_, other.pending_);
  pending_name_ = other.pending_name_.exchange(pending_name_);
}

Status check_writable_folder(const NamedPath& folder) {
  std::error_code ignored;
  if (fs::exists(folder.path, ignored) && !fs::is_directory(folder.path, ignored))
    return invalid_argument(shown(folder) + ": is a file; give a folder");
  if (!fs::is_directory(folder.path, ignored))
    return not_found(shown(folder) + ": no such folder; make it, or choose another");
  if (::access(folder.path.c_str(), W_OK | X_OK) != 0)
    return io_error(shown(folder) + ": files cannot be made there " + errno_text(errno, "choose another"));
  return {};
}

}  // namespace liveavatar
