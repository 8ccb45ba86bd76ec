#include "cli/embedded.h"

#include <filesystem>

namespace liveavatar::cli {

Expected<std::string> embedded_path(const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const fs::path& root : {program / LIVEAVATAR_SHARE_FROM_BIN, fs::path(LIVEAVATAR_SOURCE_DIR)}) {
    fs::path path = (root / name).lexically_normal();
    if (fs::exists(path, ignored)) return path.string();
  }
  return not_found(name + ": it comes with the program, but is neither in " +
                   (program / LIVEAVATAR_SHARE_FROM_BIN).lexically_normal().string() +
                   " nor in the source tree; run `cmake --install`, or give --ckpt_dir DIR");
}

}  // namespace liveavatar::cli
