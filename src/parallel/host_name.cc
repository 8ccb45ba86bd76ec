#include "parallel/host_name.h"

#include <unistd.h>

namespace liveavatar {

std::string host_name() {
  char name[256] = "";
  const bool known = gethostname(name, sizeof(name) - 1) == 0;
  return known ? name : "this host";
}

}  // namespace liveavatar
