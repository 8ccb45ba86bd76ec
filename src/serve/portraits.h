// Portraits that are kept by name, in memory of the disk: the files of a work folder.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "serve/work_folder.h"

namespace liveavatar::serve {

struct Portrait {
  std::string name;
  std::shared_ptr<WorkFile> file;  // stays while somebody uses it, also when the name is gone
  size_t bytes = 0;
  int64_t width = 0, height = 0;  // pixels, upright
};

// Any thread.
class Portraits {
 public:
  static constexpr size_t kMost = 256, kMostNameBytes = 64;
  explicit Portraits(const WorkFolder& folder) : folder_(folder) {}

  // Letters, digits, "-" and "_".
  static bool is_name(std::string_view name);
  // A file of the folder with these bytes. kInvalidArgument: no image.
  Expected<Portrait> read(std::string_view bytes) const;
  // Replaces one of that name.
  Expected<Portrait> put(const std::string& name, std::string_view bytes);
  Expected<Portrait> get(const std::string& name) const;  // kNotFound
  bool remove(const std::string& name);
  std::vector<Portrait> all() const;

 private:
  const WorkFolder& folder_;
  mutable std::mutex mutex_;
  std::map<std::string, Portrait> portraits_;
};

}  // namespace liveavatar::serve
