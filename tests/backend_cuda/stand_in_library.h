// Libraries on the emulated device, in place of NVIDIA's: right, or wrong in the way that they are told to be.
#pragma once

#include <memory>

#include "backend/cuda/library.h"

namespace liveavatar::cuda {

struct StandIn {
  enum class Fault { kNone, kWrongValue, kOtherBitsEachTime, kRefuses };
  Fault fault = Fault::kNone;
  double milliseconds = 0.5;  // of the device's clock; our kernel takes 10
  int runs = 0;               // so far
  int refuses_after = -1;     // runs; -1: never
};

// state: outlives the library.
std::unique_ptr<LinearLibrary> make_stand_in(StandIn& state);
std::unique_ptr<ConvLibrary> make_conv_stand_in(StandIn& state);

}  // namespace liveavatar::cuda
