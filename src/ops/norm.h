#pragma once
#include "backend/backend.h"
namespace liveavatar::ops {
// LayerNorm over the last dimension, then * weight + bias (optional f32 [D]), then the modulation (optional).
// Statistics in f32. x and out [T, D]; may be the same memory.
void layer_norm(Backend& backend, const Tensor& x, float eps, const Tensor& out, const Modulation& modulation = {});
void layer_norm_affine(Backend& backend, const Tensor& x, float eps, const Tensor& weight, const Tensor& bias,
                       const Tensor& out);
// x * rsqrt(mean(x^2) + eps) * gain over the last dimension; gain f32 [D].
void rms_norm(Backend& backend, const Tensor& x, float eps, const Tensor& gain, const Tensor& out);
// activation(x / max(|x|, 1e-12) * sqrt(C) * gain) over the last dimension (channels); gain f32 [C]. Wan 2.1 VAE.
void channel_norm(Backend& backend, const Tensor& x, const Tensor& gain, Activation activation, const Tensor& out);
}  // namespace liveavatar::ops
