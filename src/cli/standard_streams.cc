#include "cli/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <initializer_list>

namespace liveavatar::cli {

void open_standard_streams() {
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    const bool closed = ::fcntl(fd, F_GETFD) < 0;
    if (closed) ::open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);  // takes the lowest free number: fd
  }
}

bool has_standard_output() {
  const int flags = ::fcntl(STDOUT_FILENO, F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

}  // namespace liveavatar::cli
