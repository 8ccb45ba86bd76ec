// A file that appears under its name when it is whole.
#pragma once

#include <string>

#include "core/status.h"

namespace liveavatar {

// Until then it lies beside that name, locked: one job writes it, another is refused or waits. What a killed job left
// there is written over by the next.
class PendingFile {
 public:
  enum class Busy { kRefuse, kWait };
  static constexpr const char* kEnding = ".liveavatar-partial";

  static Expected<PendingFile> open(const std::string& path, Busy busy);
  PendingFile(PendingFile&& other) noexcept { swap(other); }
  PendingFile& operator=(PendingFile&& other) noexcept {
    swap(other);
    return *this;
  }
  ~PendingFile();  // without commit(): it is gone

  int descriptor() const { return descriptor_; }  // open for writing and reading, empty at first
  const std::string& path() const { return path_; }
  Status commit();
  // As commit(), for a file that goes on growing under its name: the descriptor, still locked, is the caller's.
  Expected<int> publish();
  const std::string& partial() const { return partial_; }  // the name until then

 private:
  PendingFile() = default;
  void swap(PendingFile& other);
  Expected<PendingFile> with_own_name();  // where nothing can be locked: no other job has this name
  std::string path_, partial_;
  int descriptor_ = -1;
};

// Removes what killed jobs left in a folder, other than what is being written. Returns how many files that were.
int remove_abandoned(const std::string& folder);

}  // namespace liveavatar
