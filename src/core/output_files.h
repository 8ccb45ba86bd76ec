// Files that a command writes: none of them may be one that it reads, and one writer has a file at a time.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"

namespace liveavatar {

class PendingFile;

// A path and the flag that named it.
struct NamedPath {
  std::string flag, path;
};

// kInvalidArgument where an output is an input, or two outputs are one file; links are followed, hard links too. What
// is no file on a disk (/dev/null, a pipe) may be named twice. Opens nothing.
Status check_outputs(const std::vector<NamedPath>& inputs, const std::vector<NamedPath>& outputs);

// Holds an output while a job runs: it can be written, and a second job that claims it is refused. The file is made if
// it is not there, and removed at the end if nobody wrote to it. What it held before is not touched.
class OutputClaim {
 public:
  OutputClaim();
  static Expected<OutputClaim> take(const NamedPath& output);
  OutputClaim(OutputClaim&& other) noexcept;
  OutputClaim& operator=(OutputClaim&& other) noexcept {
    swap(other);
    return *this;
  }
  ~OutputClaim();

  // In place of what the file held.
  Status write(const std::string& text);

  // A file that grows. The descriptor to write to: of an empty file, which is the claimed one, or one beside it where
  // that holds something. Then it takes the name with publish(): until that moment what was there stays.
  Expected<int> begin();
  Status publish();
  // After the last byte: kIo where the file was moved or removed meanwhile; the message says where it is.
  Status check_name() const;

  // From a signal handler, at the process's end: what the destructor would remove.
  void remove_unused() const;
  const std::string& path() const { return output_.path; }

 private:
  void swap(OutputClaim& other);
  Status hold_name();  // a file that was moved away is somebody's, and not written to
  NamedPath output_;
  int descriptor_ = -1;  // -1: no regular file, or nothing claimed
  int device_ = -1;      // open for begin() where there is no regular file
  bool made_ = false;
  std::unique_ptr<PendingFile> pending_;             // between begin() and publish()
  std::atomic<const char*> pending_name_ = nullptr;  // for a signal handler
};

// Why a file cannot be written, by errno.
Status write_failed(const NamedPath& output, int error);

// kInvalidArgument for a file, kIo where no file can be made in the folder.
Status check_writable_folder(const NamedPath& folder);

// `path`, or what it links to, also where that is not there yet.
std::string follow_links(const std::string& path);

// Takes the lock of an open file. kBusy: somebody else has it; kNone: this file system knows no locks.
enum class Lock { kTaken, kBusy, kNone };
Lock try_lock(int descriptor);
// Whether the open file is still what `path` names.
bool is_open_at(int descriptor, const std::string& path);

}  // namespace liveavatar
