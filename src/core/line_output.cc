#include "core/line_output.h"

#include <unistd.h>

#include <cerrno>
#include <string_view>

namespace liveavatar {

void put_line(int descriptor, std::string line) {
  line += '\n';
  for (std::string_view rest = line; !rest.empty();) {  // a pipe may take a part of a long one
    const ssize_t put = ::write(descriptor, rest.data(), rest.size());
    if (put < 0 && errno != EINTR) return;
    if (put > 0) rest.remove_prefix(static_cast<size_t>(put));
  }
}

}  // namespace liveavatar
