// Messages between cards, by a library (LinkLibrary), on a backend's stream.
#pragma once

#include "backend/cuda/device.h"
#include "parallel/device_link.h"

namespace liveavatar::cuda {

// As Backend::open_link(): all ranks of the stage at the same point. Device and stage outlive the link. Where the
// library is missing on a rank, two ranks are on one card, or a rank does not come in, there is none.
Expected<LinkChoice> open_device_link(CudaDevice& device, void* stream, Group& stage);

}  // namespace liveavatar::cuda
