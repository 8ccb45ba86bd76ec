// Files that a command writes: no output is an input, and each file has one writer at a time.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/disk_room.h"
#include "core/open_folder.h"
#include "core/status.h"

namespace liveavatar {

class PendingFile;

// A path and the flag that named it.
struct NamedPath {
  std::string flag, path;
};

// kInvalidArgument if an output is an input, or two outputs are the same file. Symbolic and hard links are followed.
// Devices and pipes (/dev/null) may be named twice. Opens no file.
Status check_outputs(const std::vector<NamedPath>& inputs, const std::vector<NamedPath>& outputs);

// Claims an output for a job: the file can be written, and a claim by a second job fails. A missing file is created,
// and removed at the end if nothing was written. An existing file is not changed by the claim.
class OutputClaim {
 public:
  OutputClaim();
  static Expected<OutputClaim> acquire(const NamedPath& output);
  // A file in `folder` that no other program sees: it ends with the claim, also if the process is killed. `name` is
  // for messages and for the file's kind. Each begin() empties it.
  static Expected<OutputClaim> temporary(const std::string& folder, const std::string& name);
  OutputClaim(OutputClaim&& other) noexcept;
  OutputClaim& operator=(OutputClaim&& other) noexcept {
    swap(other);
    return *this;
  }
  ~OutputClaim();

  // For all that is written later: it waits on a full disk. The room outlives the claim.
  void set_room(DiskRoom& room) { room_ = &room; }
  // For those who write to begin() and beside it.
  RoomyFile roomy() const { return {output_.path, room_}; }

  // Replaces the file's content: all of it, or nothing if there is no room. A pipe or device gets the text.
  Status write(const std::string& text);

  // For a file that grows. Returns the descriptor to write to: the claimed file if it is empty, else a new file beside
  // it. publish() gives the new file the name: until then the old content stays.
  Expected<int> begin();
  Status publish();
  // For a file that is gone on with: its descriptor. Error: it has less than `bytes`, or is no regular file. cut()
  // drops what is behind them, and writes `head` over the first ones again, before more is written.
  Expected<int> reopen(int64_t bytes);
  Status cut(int64_t bytes, const std::string& head);
  // The bytes are on the disk: an error that the system kept until now, as network file systems do, is told.
  Status sync() const;
  // After the last byte: kIo if the file was moved or removed in the meantime. The message says where it is.
  Status check_name() const;

  // For a signal handler at the end of the process: removes the files that the destructor would remove.
  void remove_unused() const;
  const std::string& path() const { return output_.path; }
  std::string place() const;                      // the path, or what it is since its folder was moved
  size_t bytes() const;                           // of the regular file
  int descriptor() const { return descriptor_; }  // the claimed regular file's; -1: it is none

 private:
  void swap(OutputClaim& other);
  bool holds_name() const;  // whether place() still names the claimed file
  Status open_device();
  Status open_beside();  // a new file for begin(); null if none can be made in the folder
  Status replace_content(const std::string& whole);
  Status hold_name();  // creates the file again if it was moved: a moved file is not written to
  NamedPath output_;
  OpenFolder folder_;
  DiskRoom* room_ = nullptr;
  int descriptor_ = -1;  // -1: not a regular file, or nothing is claimed
  int device_ = -1;      // open if it is not a regular file
  bool made_ = false;
  bool temporary_ = false;
  std::unique_ptr<PendingFile> pending_;             // between begin() and publish()
  std::atomic<const char*> pending_name_ = nullptr;  // for a signal handler
};

// The error for a file that cannot be written, from errno.
Status write_failed(const NamedPath& output, int error);

// kInvalidArgument for a file, kIo if no file can be created in the folder.
Status check_writable_folder(const NamedPath& folder);

// `path`, or the target that it links to, which need not exist.
std::string follow_links(const std::string& path);

// Locks an open file. kBusy: another process has the lock. kNone: the file system has no locks.
enum class Lock { kTaken, kBusy, kNone };
Lock try_lock(int descriptor);
// Whether `path` still names the open file.
bool is_open_at(int descriptor, const std::string& path);

}  // namespace liveavatar
