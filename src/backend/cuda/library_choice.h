// What was found out of ops that are computed alike, and is kept (choice_file.h).
#pragma once

#include <string>

namespace liveavatar::cuda {

struct LibraryChoice {
  std::string what;  // describe() of the class of ops
  bool by_library = false;
  double own_ms = 0, library_ms = 0;  // 0: not measured
  std::string why;
};

}  // namespace liveavatar::cuda
