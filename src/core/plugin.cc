#include "core/plugin.h"

#include <dlfcn.h>

#include <filesystem>
#include <string_view>
#include <system_error>

#include "liveavatar/version.h"

namespace liveavatar {

namespace fs = std::filesystem;

std::string find_plugin(const std::string& name) {
  std::error_code ignored;
  const fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const char* plugins : {"../lib/liveavatar", LIVEAVATAR_PLUGINS_FROM_BIN}) {
    const fs::path file = folder / plugins / (name + ".so");
    if (fs::exists(file, ignored)) return file.lexically_normal().string();
  }
  return {};
}

Expected<void*> load_plugin(const std::string& file, const PluginSymbols& symbols, const std::string& install) {
  void* plugin = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);  // for good: few libraries can be unloaded
  if (plugin == nullptr) {
    const char* why = dlerror();
    return unsupported(file + " cannot be loaded (" + (why != nullptr ? why : "no reason given") + "): " + install +
                       ", or build again");
  }
  const auto* version = static_cast<const char* const*>(dlsym(plugin, symbols.version));
  void* factory = dlsym(plugin, symbols.factory);
  if (version == nullptr || factory == nullptr || std::string_view(*version) != LIVEAVATAR_VERSION_STRING)
    return unsupported(file + " belongs to another version of liveavatar: install both again");
  return factory;
}

}  // namespace liveavatar
