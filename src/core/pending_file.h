// A file that gets its name when it is complete.
#pragma once

#include <stop_token>
#include <string>

#include "core/disk_room.h"
#include "core/open_folder.h"
#include "core/status.h"

namespace liveavatar {

// Until then it has a temporary name beside the final one and is locked: a second job fails or waits. A temporary file
// of a killed job is overwritten by the next job.
class PendingFile {
 public:
  enum class Busy { kRefuse, kWait };
  static constexpr const char* kEnding = ".liveavatar-partial";

  // stop: heard while it waits: kCancelled. room: for its names; null: a full disk is an error at once.
  static Expected<PendingFile> open(const std::string& path, Busy busy, const std::stop_token& stop = {},
                                    DiskRoom* room = nullptr);
  PendingFile(PendingFile&& other) noexcept { swap(other); }
  PendingFile& operator=(PendingFile&& other) noexcept {
    swap(other);
    return *this;
  }
  ~PendingFile();  // without commit(): the file is removed

  int descriptor() const { return descriptor_; }  // open for writing and reading, empty at first
  const std::string& path() const { return path_; }
  // In the folder where it was made, also where that was moved meanwhile.
  Status commit();
  // As commit(), for a file that still grows: returns the descriptor, still locked, to the caller.
  Expected<int> publish();
  const std::string& partial() const { return partial_; }  // the temporary name

 private:
  PendingFile() = default;
  void swap(PendingFile& other);
  Expected<PendingFile> with_own_name();  // if locks are unavailable: a name that no other job has
  std::string path_, partial_;
  OpenFolder folder_;
  DiskRoom* room_ = nullptr;
  int descriptor_ = -1;
};

// Removes temporary files that killed jobs left in a folder; those being written stay. Returns the number of files.
int remove_abandoned(const std::string& folder);

}  // namespace liveavatar
