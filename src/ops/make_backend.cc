#include "ops/make_backend.h"

#include <algorithm>

#include "backend/cpu/make_cpu_backend.h"
#include "backend/reference/make_reference_backend.h"
#include "core/boundary.h"
#include "core/threads.h"

namespace liveavatar {

int most_threads() {
  constexpr int kOnACpu = 4;
  return kOnACpu * usable_cpus();
}

Expected<std::unique_ptr<Backend>> make_backend(const std::string& device, const BackendOptions& asked) {
  BackendOptions options = asked;
  options.threads = std::min(options.threads, most_threads());
  if (device == "reference") return contained("`device` reference", [&] { return make_reference_backend(options); });
  if (device == "cpu") return contained("`device` cpu", [&] { return make_cpu_backend(options); });
  return invalid_argument("`device` " + device + ": there is no such device; choose cpu, cuda, cuda:N or reference");
}

}  // namespace liveavatar
