// In place of cublaslt.cc in a build without its headers.
#include "backend/cuda/libraries/cublaslt.h"

namespace liveavatar::cuda {

Expected<std::unique_ptr<LinearLibrary>> open_cublaslt(int) {
  return unsupported("this program was built without cuBLASLt's headers (cublasLt.h of the CUDA toolkit)");
}

}  // namespace liveavatar::cuda
