#include "ops/backend.h"

namespace liveavatar {
Expected<std::unique_ptr<Backend>> make_cpu_backend(const BackendOptions&) { return unsupported("--device cpu is not built yet"); }
}
