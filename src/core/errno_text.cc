#include "core/errno_text.h"

#include <cerrno>
#include <cstring>

namespace liveavatar {

std::string errno_advice(int error, const std::string& otherwise) {
  switch (error) {
    case EMFILE:
      return "raise the limit of open files (ulimit -n)";
    case ENFILE:
      return "close other programs: the system has too many open files";
    case EFBIG:
      return "raise the limit of file sizes (ulimit -f), or choose a file system that takes larger files";
    default:
      return otherwise;
  }
}

std::string errno_text(int error, const std::string& otherwise) {
  return std::string("(") + std::strerror(error) + "); " + errno_advice(error, otherwise);
}

}  // namespace liveavatar
