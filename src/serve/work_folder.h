// Files of clients: in a folder of our own, under names of our own.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/status.h"
#include "core/temporary_folder.h"

namespace liveavatar::serve {

// A file that is removed when nobody needs it any more. It need not exist yet.
class WorkFile {
 public:
  explicit WorkFile(std::string path) : path_(std::move(path)) {}
  ~WorkFile();
  WorkFile(const WorkFile&) = delete;
  WorkFile& operator=(const WorkFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

// Any thread.
class WorkFolder {
 public:
  // parent: empty: the system's folder for temporary files.
  static Expected<std::unique_ptr<WorkFolder>> create(const std::string& parent);
  // A new name that ends so; no file is made.
  std::shared_ptr<WorkFile> name(const std::string& ending) const;
  Expected<std::shared_ptr<WorkFile>> write(std::string_view bytes) const;

 private:
  explicit WorkFolder(std::unique_ptr<TemporaryFolder> folder) : folder_(std::move(folder)) {}
  const std::unique_ptr<TemporaryFolder> folder_;
};

// 32 hexadecimal digits that nobody can guess.
std::string random_id();

}  // namespace liveavatar::serve
