// Components of the program that are loaded when they are needed: lib/liveavatar/<name>.so beside its bin/.
#pragma once

#include <string>

#include "core/status.h"

namespace liveavatar {

// In the build tree and as it is installed. Empty: it is not there.
std::string find_plugin(const std::string& name);

// What a plugin exports: a function, and a `const char*` with the version that it was built as.
struct PluginSymbols {
  const char *version, *factory;
};
// The function. The plugin stays for good. install: for the message where it cannot be loaded ("install Open MPI").
Expected<void*> load_plugin(const std::string& file, const PluginSymbols& symbols, const std::string& install);

}  // namespace liveavatar
