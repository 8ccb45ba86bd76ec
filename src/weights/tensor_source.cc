#include "weights/tensor_source.h"

namespace liveavatar {

Status TensorSource::read_codes(const std::string& name, TensorPart, uint8_t*, float*) const {
  LA_CHECK(tensors().at(name).codes != DType::kF32 && !"a source with codes reads them");
  return {};
}

std::string TensorSource::metadata(const std::string&) const { return {}; }

}  // namespace liveavatar
