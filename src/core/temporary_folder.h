// A folder for the files of this process alone.
#pragma once

#include <memory>
#include <string>

#include "core/status.h"

namespace liveavatar {

// Removed at its end with all that is in it. What a process left that was killed is removed when the next folder of
// the name is made there.
class TemporaryFolder {
 public:
  // PARENT/NAME-XXXXXX. parent: empty: the system's folder for temporary files. advice: what to do where that cannot be
  // written, "choose another folder".
  static Expected<std::unique_ptr<TemporaryFolder>> create(const std::string& parent, const std::string& name,
                                                           const std::string& advice);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  TemporaryFolder(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}
  const std::string path_;
  const int lock_;  // its descriptor, locked while the process lives
};

}  // namespace liveavatar
