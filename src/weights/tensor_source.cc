#include "weights/tensor_source.h"

namespace liveavatar {

Status TensorSource::read_codes(const std::string& name, TensorPart, uint8_t*, float*) const {
  return unsupported(where() + ": " + name + " holds no 8-bit codes");
}

std::string TensorSource::metadata(const std::string&) const { return {}; }

}  // namespace liveavatar
