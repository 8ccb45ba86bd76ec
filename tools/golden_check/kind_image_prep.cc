#include <stdexcept>

#include "golden.h"

namespace liveavatar::golden {
void check_image_prep(const Golden&) { throw std::runtime_error("not built yet"); }
}  // namespace liveavatar::golden
