// A folder that is found again where it was moved.
#pragma once

#include <string>
#include <utility>

namespace liveavatar {

class OpenFolder {
 public:
  OpenFolder() = default;
  // One that cannot be opened is not followed.
  explicit OpenFolder(std::string path);
  OpenFolder(OpenFolder&& other) noexcept { swap(other); }
  OpenFolder& operator=(OpenFolder&& other) noexcept {
    swap(other);
    return *this;
  }
  ~OpenFolder();

  // The path that it was opened by, as long as that leads to it and after it was removed; else where it is now.
  std::string path() const;
  // Of a file in it, by the path that it had then: the path now.
  std::string path_of(const std::string& file) const;

 private:
  void swap(OpenFolder& other);
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace liveavatar
