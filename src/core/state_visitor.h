// The values of a running job from which another run can go on, one tensor after the other.
#pragma once

#include <string>

#include "core/status.h"
#include "core/tensor.h"

namespace liveavatar {

// Keeps the values of the tensors that it is shown, or gives kept ones back. Who has state shows it by one function, in
// one order, for both.
class StateVisitor {
 public:
  virtual ~StateVisitor() = default;
  // Of the device that the visitor was made for. No other tensor of the state has the name.
  virtual Status visit(const std::string& name, const Tensor& tensor) = 0;
  virtual bool gives_back() const = 0;
};

}  // namespace liveavatar
