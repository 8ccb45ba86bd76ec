#pragma once
#include "backend/backend.h"
namespace liveavatar::ops {
// x [..., K], w [N, K] packed -> out [..., N] = residual + gate * activation(x w^T + bias), summed in f32.
void linear(Backend& backend, const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& epilogue = {});
}  // namespace liveavatar::ops
