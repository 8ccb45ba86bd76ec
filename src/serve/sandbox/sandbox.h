// What a process gives up for good: files by Landlock, system calls by seccomp. Threads that are made later have given
// it up too.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"

namespace liveavatar::sandbox {

// Files and folders with all that is in them; what does not exist is left out. No file is executed, of any path.
struct FileRules {
  std::vector<std::string> read;
  std::vector<std::string> write;  // and read, make, rename and remove
};

// All other files are refused (EACCES); what is open stays open. kUnsupported: nothing was given up. Before Linux 7.0
// that is also where other threads run, which Landlock would not bind.
Status restrict_files(const FileRules& rules);

// System calls that no server needs are refused (EPERM), to the threads that run too. kUnsupported: none is.
Status restrict_calls();

}  // namespace liveavatar::sandbox
