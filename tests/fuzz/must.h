// What has to hold of every input: a fuzz target stops where it does not.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace liveavatar::fuzz {

inline void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: does not hold: %s\n", what);
  std::abort();
}

}  // namespace liveavatar::fuzz
