// The server gives up what it does not need (docs/serve.md#locked-down).
#pragma once

#include <string>

#include "serve/options.h"
#include "serve/sandbox/sandbox.h"

namespace liveavatar::serve {

// What a server with these options touches, and nothing else.
sandbox::FileRules files_of(const ServeOptions& options);

// Before the process has a second thread: Landlock binds those that are made later alone. The state is what /health
// says: "on", "files" or "calls" where the system has only that, "off". A note is one line of what is missing, and an
// error with SandboxMode::kOn.
struct Lockdown {
  std::string state, note;
};
Expected<Lockdown> lock_down(const ServeOptions& options);

}  // namespace liveavatar::serve
