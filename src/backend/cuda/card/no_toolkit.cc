// In place of card_runtime.cc in a build without a CUDA toolkit.
#include "backend/cuda/card/card_runtime.h"

namespace liveavatar::cuda {
namespace {

Status without_toolkit() {
  return unsupported(
      "this program was built without a CUDA toolkit; install one (nvcc, 12.8 or later), configure and build it again "
      "(docs/cuda.md), or choose another `device`");
}

}  // namespace

Expected<std::vector<Card>> find_cards() { return without_toolkit(); }
Expected<std::unique_ptr<Runtime>> open_card(int) { return without_toolkit(); }

}  // namespace liveavatar::cuda
