#include "core/available_memory.h"

#include <algorithm>
#include <fstream>
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

// Page cache of the group that the system takes back first.
size_t inactive_file_bytes() {
  std::ifstream file("/sys/fs/cgroup/memory.stat");
  std::string name;
  size_t bytes = 0;
  while (file >> name >> bytes)
    if (name == "inactive_file") return bytes;
  return 0;
}

// Of control group version 2, where the process sees its own as the root (containers).
std::optional<size_t> group_bytes() {
  const std::optional<size_t> limit = number_in("/sys/fs/cgroup/memory.max");
  const std::optional<size_t> used = number_in("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return {};
  const size_t kept = *used - std::min(*used, inactive_file_bytes());
  return *limit - std::min(*limit, kept);
}

}  // namespace

std::optional<size_t> available_host_bytes() {
  const std::optional<size_t> system = system_bytes(), group = group_bytes();
  if (!system || !group) return system ? system : group;
  return std::min(*system, *group);
}

}  // namespace liveavatar
