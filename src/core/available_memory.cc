#include "core/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace liveavatar {
namespace {

// The number of a file that holds nothing else; none: there is no such file, or it says "max".
std::optional<size_t> number_in(const std::string& path) {
  std::ifstream file(path);
  size_t value = 0;
  if (!(file >> value)) return {};
  return value;
}

std::optional<size_t> system_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  size_t kib = 0;
  while (file >> name >> kib) {
    if (name == "MemAvailable:") return kib * 1024;
    std::getline(file, unit);
  }
  return {};
}

// Of control group version 2, where the process sees its own as the root (containers).
std::optional<size_t> group_bytes() {
  const std::optional<size_t> limit = number_in("/sys/fs/cgroup/memory.max");
  const std::optional<size_t> used = number_in("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return {};
  return *limit - std::min(*limit, *used);
}

}  // namespace

size_t available_host_bytes() {
  constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();
  const size_t bytes = std::min(system_bytes().value_or(kNoLimit), group_bytes().value_or(kNoLimit));
  return bytes == kNoLimit ? 0 : bytes;
}

}  // namespace liveavatar
