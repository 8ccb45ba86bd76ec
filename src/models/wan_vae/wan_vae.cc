#include "models/wan_vae/wan_vae.h"

#include <cmath>
#include <cstring>

#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace liveavatar {

Expected<std::unique_ptr<WanVae>> WanVae::load(const TensorSource& source, Backend& backend, Budget& budget, DType dtype) {
  std::unique_ptr<WanVae> vae(new WanVae(backend, budget, dtype));
  auto conv1 = source.tensors().find("encoder.conv1.weight");
  if (conv1 == source.tensors().end() || conv1->second.shape.rank() < 2) {
    return corrupt(source.where() + ": no encoder.conv1.weight; this is not a Wan 2.1 VAE");
  }
  vae->config_.dim = conv1->second.shape[0];
  if (vae->config_.dim < 2 || vae->config_.dim % 2 != 0) return corrupt(source.where() + ": encoder.conv1.weight has an odd width");
  WeightLoader loader(source, backend, budget, Tenant::kVae, dtype);
  LA_ASSIGN_OR_RETURN(vae->weights_, load_vae_weights(vae->config_, loader));
  return vae;
}

void CausalStates::add(Arena& arena, int64_t frames, int64_t height, int64_t width, int64_t channels, DType dtype) {
  Tensor state = arena.tensor({frames, height, width, channels}, dtype);
  if (state.data != nullptr) std::memset(state.data, 0, state.bytes());
  states_.push_back(state);
}

Tensor VaeBlocks::view(const Tensor& buffer, Shape shape) {
  LA_CHECK(shape.elements() <= buffer.elements());
  return {buffer.data, shape, buffer.dtype};
}

void VaeBlocks::causal_conv(const Tensor& x, const ConvWeight& w, const Tensor& out, const Epilogue& epilogue) {
  const Tensor& past = states_.next();
  int64_t border = w.kernel[1] / 2, frames = x.dim(0);
  ops::conv(vae_.backend(), x, w,
            {.pad_top = border, .pad_bottom = border, .pad_left = border, .pad_right = border, .history = past}, out, epilogue);
  if (frames == 1) ops::copy(vae_.backend(), past.slice(1, 1), past.slice(0, 1));
  int64_t kept = std::min<int64_t>(frames, 2);
  ops::copy(vae_.backend(), x.slice(frames - kept, kept), past.slice(2 - kept, kept));
}

// x and the result lie in work.a.
Tensor VaeBlocks::res_block(const Tensor& x, const VaeResBlock& w) {
  Backend& backend = vae_.backend();
  Shape wide{x.dim(0), x.dim(1), x.dim(2), w.conv1.out_channels};
  Tensor normed = view(work_.b, x.shape), half = view(work_.c, wide);
  ops::channel_norm(backend, x, w.gain1, Activation::kSilu, normed);
  causal_conv(normed, w.conv1, half);
  Tensor normed_half = view(work_.b, wide), out = view(work_.a, wide);
  ops::channel_norm(backend, half, w.gain2, Activation::kSilu, normed_half);
  Tensor residual = x;
  if (w.shortcut) {
    residual = half;
    ops::linear(backend, x, *w.shortcut, residual);
  }
  causal_conv(normed_half, w.conv2, out, {.residual = residual});
  return out;
}

Tensor VaeBlocks::attention(const Tensor& x, const VaeAttention& w) {
  Backend& backend = vae_.backend();
  int64_t channels = x.dim(3), pixels = x.dim(1) * x.dim(2);
  Tensor q = view(work_.q, {pixels, channels}), k = view(work_.k, {pixels, channels}), v = view(work_.v, {pixels, channels});
  Tensor attended = view(work_.attended, {pixels, channels}), normed = view(work_.b, {pixels, channels});
  for (int64_t f = 0; f < x.dim(0); ++f) {
    Tensor frame = x.slice(f, 1).reshape({pixels, channels});
    ops::channel_norm(backend, frame, w.gain, Activation::kNone, normed);
    ops::linear(backend, normed, w.q, q);
    ops::linear(backend, normed, w.k, k);
    ops::linear(backend, normed, w.v, v);
    const KeyValues keys{k, v};
    ops::attention(backend, q, {&keys, 1}, {.heads = 1, .scale = 1.0f / std::sqrt(static_cast<float>(channels))}, attended);
    ops::linear(backend, attended, w.proj, frame, {.residual = frame});
  }
  return x;
}

Tensor VaeBlocks::middle(const Tensor& x, const VaeMiddle& w) {
  return res_block(attention(res_block(x, w.before), w.attention), w.after);
}

}  // namespace liveavatar
