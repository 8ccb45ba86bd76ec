#include "weights/tensor_source.h"

namespace liveavatar {

Status TensorSource::read_quantised(const std::string& name, TensorPart, uint8_t*, float*) const {
  return unsupported(where() + ": " + name + " has no 8-bit values");
}

std::string TensorSource::metadata(const std::string&) const { return {}; }

}  // namespace liveavatar
