#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "core/errno_text.h"
#include "core/folder.h"
#include "serve/sandbox/sandbox.h"

namespace liveavatar::sandbox {
namespace {

// What newer headers name.
constexpr uint64_t kRefer = 1u << 13, kTruncate = 1u << 14;
constexpr uint32_t kAllThreads = 1u << 3;  // of landlock_restrict_self, from kAbiAllThreads on
constexpr int kAbiRefer = 2, kAbiTruncate = 3, kAbiAllThreads = 8;

constexpr uint64_t kReadFile = LANDLOCK_ACCESS_FS_READ_FILE, kReadFolder = LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kWriteFile = LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate;
constexpr uint64_t kChangeFolder = LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                   LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                                   LANDLOCK_ACCESS_FS_MAKE_SYM | kRefer;
constexpr uint64_t kNeverGranted = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                                   LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                                   LANDLOCK_ACCESS_FS_MAKE_SOCK;

class Descriptor {
 public:
  explicit Descriptor(long fd) : fd_(static_cast<int>(fd)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

uint64_t handled(int abi) {
  uint64_t access = kNeverGranted | kReadFile | kReadFolder | kWriteFile | kChangeFolder;
  if (abi < kAbiRefer) access &= ~kRefer;
  if (abi < kAbiTruncate) access &= ~kTruncate;
  return access;
}

Status failed(const char* what) {
  return unsupported(std::string("Landlock: ") + what + " " +
                     errno_text(errno, "see whether the kernel or the container has it"));
}

Status allow(int ruleset, const std::string& path, uint64_t access) {
  const Descriptor file(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat info {};
  if (file.get() < 0 || ::fstat(file.get(), &info) != 0) return {};  // nothing is there, or not for us
  if (!S_ISDIR(info.st_mode)) access &= kReadFile | kWriteFile;
  const landlock_path_beneath_attr rule{.allowed_access = access, .parent_fd = file.get()};
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0) return {};
  return failed(("no rule can be made for " + path).c_str());
}

}  // namespace

Status restrict_files(const FileRules& rules) {
  const long abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 1) return failed("this system has none");
  const bool binds_all = abi >= kAbiAllThreads;
  if (!binds_all && folder_entries("/proc/self/task").size() != 1)
    return unsupported("Landlock: other threads run, which this kernel would not bind");
  const uint64_t all = handled(static_cast<int>(abi));
  landlock_ruleset_attr attributes{};
  attributes.handled_access_fs = all;
  const Descriptor ruleset(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0));
  if (ruleset.get() < 0) return failed("no rules can be made");
  for (const std::string& path : rules.read) LA_RETURN_IF_ERROR(allow(ruleset.get(), path, kReadFile | kReadFolder));
  for (const std::string& path : rules.write) LA_RETURN_IF_ERROR(allow(ruleset.get(), path, all & ~kNeverGranted));
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed("new privileges cannot be given up");
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), binds_all ? kAllThreads : 0) != 0)
    return failed("the rules are refused");
  return {};
}

}  // namespace liveavatar::sandbox
