// In place of nccl.cc in a build without its header.
#include "backend/cuda/libraries/nccl.h"

namespace liveavatar::cuda {

Expected<std::unique_ptr<LinkLibrary>> open_nccl() {
  return unsupported("this program was built without NCCL's header (nccl.h)");
}

}  // namespace liveavatar::cuda
