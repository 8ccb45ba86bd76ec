#include "ops/backend.h"

#include "core/boundary.h"

namespace liveavatar {

Expected<std::unique_ptr<Backend>> make_backend(const std::string& device, const BackendOptions& options) {
  if (device == "reference") return contained("--device reference", [&] { return make_reference_backend(options); });
  if (device == "cpu") return contained("--device cpu", [&] { return make_cpu_backend(options); });
  return invalid_argument("--device " + device + ": unknown device; choose reference or cpu");
}

}  // namespace liveavatar
