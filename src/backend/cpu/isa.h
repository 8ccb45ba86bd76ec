// Selects the instruction set.
#pragma once

#include <string>
#include <vector>

#include "backend/cpu/kernels.h"
#include "core/status.h"

namespace liveavatar::cpu {

struct IsaChoice {
  const Kernels* kernels = nullptr;
  std::string why;
};

// forced: a name; empty: LIVEAVATAR_ISA, or else the best. An unknown or unsupported name is an error that lists the
// supported ones.
Expected<IsaChoice> choose_isa(const std::string& forced, bool int8_products = false);

}  // namespace liveavatar::cpu
