// In place of the sandbox, where libseccomp or Landlock's header is absent.
#include "serve/sandbox/sandbox.h"

namespace liveavatar::sandbox {

Status restrict_files(const FileRules&) {
  return unsupported("built without Landlock: install libseccomp-dev and build again");
}

Status restrict_calls() { return unsupported("built without seccomp: install libseccomp-dev and build again"); }

}  // namespace liveavatar::sandbox
