#include "models/wan_vae/memory.h"

#include <algorithm>
#include <string>

#include "ops/elementwise.h"

namespace liveavatar {

namespace {

// Iterates over the layers with x, the current shape. Allocates every cache, and finds the size of the largest value.
class Layout {
 public:
  Layout(Arena& arena, DType dtype, const Shape& input) : arena_(arena), dtype_(dtype), x_(input) { visit(x_, dtype_); }

  // A (3, 3, 3) convolution to `channels`.
  Tensor causal_conv(int64_t channels) {
    Tensor cache = cache_frames(2);
    convolve({x_[3], channels, {3, 3, 3}, 1, x_[2]});
    move_on({x_[0], x_[1], x_[2], channels});
    return cache;
  }

  ResidualCache residual(int64_t channels) {
    ResidualCache h;
    hot({x_[0], x_[1], x_[2], channels}, {3, 3, 3}, {});
    h.conv1 = causal_conv(channels);
    hot(x_, {3, 3, 3}, {.residual = true});
    h.conv2 = causal_conv(channels);
    return h;
  }

  VaeLayerCache layer(const VaeLayer& layer) {
    VaeLayerCache h;
    if (layer.kind == VaeLayer::Kind::kResidual) {
      pointwise(layer.in_channels);
      h.residual = residual(layer.out_channels);
      return h;
    }
    Shape out = layer.out_shape(x_);
    bool down = layer.kind == VaeLayer::Kind::kDownsample;
    int64_t in_time = down ? layer.out_channels : layer.in_channels;
    convolve({layer.in_channels, layer.out_channels, {1, 3, 3}, down ? 2 : 1, out[2]});
    if (!down) hot(out, {1, 3, 3}, {.upsample2x = true});
    if (layer.temporal) convolve({in_time, in_time, {3, 1, 1}, 1, down ? out[2] : x_[2]});
    if (down) {
      move_on({x_[0], out[1], out[2], out[3]});  // first rows and columns, then time
      if (layer.temporal) h.time = cache_frames(1);
    } else if (layer.temporal) {
      h.time = cache_frames(2);
    }
    move_on(out);
    return h;
  }

  // Over the pixels of a frame. Queries, keys and values are 1x1 convolutions.
  void attention() {
    visit({3, x_[0], x_[1], x_[2], x_[3]}, dtype_);
    ops_.attention = {1, x_[3], x_[1] * x_[2], dtype_};
    pointwise(x_[3]);
  }
  void pointwise(int64_t channels) { ops_.linear_k = std::max(ops_.linear_k, channels); }

  // The encoder's head and the decoder's latents are always f32.
  void visit_f32(int64_t channels) { visit({x_[0], x_[1], x_[2], channels}, DType::kF32); }

  LargestOps ops() const { return ops_; }

  VaeScratch scratch() {
    VaeScratch s;
    s.buffer_bytes = buffer_bytes_;
    s.dtype = dtype_;
    for (Tensor& buffer : s.buffers) buffer = arena_.tensor({static_cast<int64_t>(buffer_bytes_)}, DType::kU8);
    return s;
  }

 private:
  void visit(const Shape& shape, DType dtype) {
    buffer_bytes_ = std::max(buffer_bytes_, static_cast<size_t>(shape.elements()) * dtype_bytes(dtype));
  }
  void move_on(const Shape& next) {
    x_ = next;
    visit(x_, dtype_);
  }
  void convolve(const ConvSize& size) { ops_.convs.push_back(size); }
  // A convolution of x that takes much of the time. how: its epilogue and resampling.
  void hot(const Shape& out, const std::array<int64_t, 3>& kernel, VideoConvSize how) {
    how.frames = out[0];
    how.rows = out[1];
    how.columns = out[2];
    how.in_channels = x_[3];
    how.out_channels = out[3];
    how.kernel = kernel;
    how.x = how.weights = how.out = dtype_;
    ops_.hot_convs.push_back(how);
  }
  Tensor cache_frames(int64_t frames) { return arena_.tensor({frames, x_[1], x_[2], x_[3]}, dtype_); }

  Arena& arena_;
  DType dtype_;
  Shape x_;
  size_t buffer_bytes_ = 0;
  LargestOps ops_;
};

void allocate_middle(Layout& layout, int64_t channels, VaeCausalCache& cache) {
  cache.middle0 = layout.residual(channels);
  layout.attention();
  cache.middle2 = layout.residual(channels);
}

}  // namespace

VaeMemory encoder_memory(const WanVaeConfig& config, int64_t height, int64_t width, DType dtype, Arena& arena) {
  VaeMemory memory;
  VaeCausalCache& cache = memory.cache;
  Layout layout(arena, dtype, {kVaeFrames, height, width, 3});
  cache.conv1 = layout.causal_conv(config.dim);
  for (const VaeLayer& layer : encoder_layers(config)) cache.layers.push_back(layout.layer(layer));
  allocate_middle(layout, config.dim * config.dim_mult.back(), cache);
  cache.head = layout.causal_conv(2 * config.z_dim);
  layout.visit_f32(2 * config.z_dim);
  layout.pointwise(2 * config.z_dim);
  memory.scratch = layout.scratch();
  memory.ops = layout.ops();
  return memory;
}

VaeMemory decoder_memory(const WanVaeConfig& config, int64_t latent_height, int64_t latent_width, DType dtype,
                         Arena& arena) {
  VaeMemory memory;
  VaeCausalCache& cache = memory.cache;
  Layout layout(arena, dtype, {1, latent_height, latent_width, config.z_dim});
  layout.visit_f32(config.z_dim);
  layout.pointwise(config.z_dim);
  int64_t channels = config.dim * config.dim_mult.back();
  cache.conv1 = layout.causal_conv(channels);
  allocate_middle(layout, channels, cache);
  for (const VaeLayer& layer : decoder_layers(config)) cache.layers.push_back(layout.layer(layer));
  cache.head = layout.causal_conv(3);
  memory.scratch = layout.scratch();
  memory.ops = layout.ops();
  return memory;
}

namespace {

template <typename Each>
void for_each_cache(const VaeCausalCache& cache, const Each& each) {
  each(cache.conv1);
  for (const ResidualCache* c : {&cache.middle0, &cache.middle2}) {
    each(c->conv1);
    each(c->conv2);
  }
  for (const VaeLayerCache& layer : cache.layers) {
    each(layer.residual.conv1);
    each(layer.residual.conv2);
    each(layer.time);
  }
  each(cache.head);
}

}  // namespace

Status visit(const VaeCausalCache& cache, StateVisitor& visitor) {
  int64_t number = 0;
  Status status;
  for_each_cache(cache, [&](const Tensor& frames) {
    const std::string name = "vae." + std::to_string(number++);
    if (!frames.empty() && status.ok()) status = visitor.visit(name, frames);
  });
  return status;
}

void clear(Backend& backend, const VaeCausalCache& cache) {
  for_each_cache(cache, [&](const Tensor& frames) {
    if (!frames.empty()) ops::fill(backend, frames, 0);
  });
}

size_t encode_stream_bytes(const WanVaeConfig& config, const VaeInput& in) {
  Arena dry_run;
  encoder_memory(config, in.height, in.width, in.dtype, dry_run);
  return dry_run.used_bytes();
}

size_t decode_stream_bytes(const WanVaeConfig& config, const VaeInput& in) {
  Arena dry_run;
  decoder_memory(config, in.height, in.width, in.dtype, dry_run);
  return dry_run.used_bytes();
}

size_t decode_cache_bytes(const WanVaeConfig& config, const VaeInput& in) {
  Arena dry_run;
  const VaeMemory memory = decoder_memory(config, in.height, in.width, in.dtype, dry_run);
  size_t bytes = 0;
  for_each_cache(memory.cache, [&](const Tensor& frames) { bytes += frames.bytes(); });
  return bytes;
}

namespace {

Expected<VaeStreamMemory> allocate(const LargestOps& ops, size_t bytes, Backend& backend, Budget& budget) {
  VaeStreamMemory memory;
  LA_RETURN_IF_ERROR(backend.reserve(ops));
  memory.convs.reset(&backend);
  LA_ASSIGN_OR_RETURN(memory.arena, Arena::allocate(budget, MemoryCategory::kVae, bytes));
  return memory;
}

}  // namespace

Expected<VaeStreamMemory> allocate_encoder(const WanVaeConfig& config, const VaeInput& in, Backend& backend,
                                           Budget& budget) {
  Arena dry_run;
  const LargestOps ops = encoder_memory(config, in.height, in.width, in.dtype, dry_run).ops;
  return allocate(ops, dry_run.used_bytes(), backend, budget);
}

Expected<VaeStreamMemory> allocate_decoder(const WanVaeConfig& config, const VaeInput& in, Backend& backend,
                                           Budget& budget) {
  Arena dry_run;
  const LargestOps ops = decoder_memory(config, in.height, in.width, in.dtype, dry_run).ops;
  return allocate(ops, dry_run.used_bytes(), backend, budget);
}

}  // namespace liveavatar
