// Which instruction set runs here.
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

// forced: a name, or empty for LIVEAVATAR_ISA and then the best. An unknown name, or one that this CPU lacks, is an
// error that lists what it has.
Expected<IsaChoice> choose_isa(const std::string& forced);

}  // namespace liveavatar::cpu
