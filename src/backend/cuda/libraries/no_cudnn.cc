// In place of cudnn.cc in a build without its headers.
#include "backend/cuda/libraries/cudnn.h"

namespace liveavatar::cuda {

Expected<std::unique_ptr<ConvLibrary>> open_cudnn(int) {
  return unsupported("this program was built without cuDNN's headers (cudnn.h)");
}

}  // namespace liveavatar::cuda
