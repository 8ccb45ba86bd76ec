#include "models/wan_vae/weights.h"

#include <span>
#include <string>

namespace liveavatar {

namespace {

constexpr std::array<int64_t, 3> kCube{3, 3, 3}, kPlane{1, 3, 3}, kTime{3, 1, 1}, kPoint{1, 1, 1};

// Rows [begin, begin + count) of the convolution `name`, whose weight has this shape [O, I, ...], as one of their own.
ConvWeight conv_rows(WeightVisitor& visitor, const std::string& name, const Shape& shape, std::array<int64_t, 3> kernel,
                     std::array<int64_t, 2> begin_count) {
  auto [begin, count] = begin_count;
  Tensor bias = visitor.keep(visitor.read_rows(name + ".bias", {shape[0]}, begin, count));
  Tensor weight = visitor.read_rows(name + ".weight", shape, begin, count);
  ConvWeight rows;
  rows.out_channels = count;
  rows.in_channels = shape[1];
  rows.kernel = kernel;
  return visitor.pack_conv(weight, rows, bias);
}

ResidualWeights load_residual(WeightVisitor& visitor, const std::string& name, int64_t in, int64_t out) {
  ResidualWeights w;
  w.gain1 = visitor.vector(name + ".residual.0.gamma", {in});
  w.conv1 = visitor.conv(name + ".residual.2", out, in, kCube);
  w.gain2 = visitor.vector(name + ".residual.3.gamma", {out});
  w.conv2 = visitor.conv(name + ".residual.6", out, out, kCube);
  if (in != out) w.shortcut = visitor.conv(name + ".shortcut", out, in, kPoint);
  return w;
}

AttentionWeights load_attention(WeightVisitor& visitor, const std::string& name, int64_t channels) {
  AttentionWeights w;
  w.gain = visitor.vector(name + ".norm.gamma", {channels});
  Shape qkv{3 * channels, channels, 1, 1};
  w.q = conv_rows(visitor, name + ".to_qkv", qkv, kPoint, {0, channels});
  w.k = conv_rows(visitor, name + ".to_qkv", qkv, kPoint, {channels, channels});
  w.v = conv_rows(visitor, name + ".to_qkv", qkv, kPoint, {2 * channels, channels});
  w.proj = visitor.conv(name + ".proj", channels, channels, kPoint);
  return w;
}

ResampleWeights load_resample(WeightVisitor& visitor, const std::string& name, const VaeLayer& layer) {
  ResampleWeights w;
  w.spatial = visitor.conv(name + ".resample.1", layer.out_channels, layer.in_channels, kPlane);
  if (!layer.temporal) return w;
  std::string time = name + ".time_conv";
  if (layer.kind == VaeLayer::Kind::kDownsample) {
    w.time = visitor.conv(time, layer.out_channels, layer.out_channels, kTime);
  } else {
    int64_t channels = layer.in_channels;
    Shape both{2 * channels, channels, 3, 1, 1};
    w.time = conv_rows(visitor, time, both, kTime, {0, channels});
    w.time_odd = conv_rows(visitor, time, both, kTime, {channels, channels});
  }
  return w;
}

struct HalfShape {
  std::string name, layers_name;  // "decoder", "upsamples"
  std::vector<VaeLayer> layers;
  int64_t in, first, middle, last,
      out;  // channels: of the input, after conv1, in the middle, before the head, after it
};

VaeHalfWeights load_half(WeightVisitor& visitor, const HalfShape& half) {
  VaeHalfWeights w;
  w.conv1 = visitor.conv(half.name + ".conv1", half.first, half.in, kCube);
  for (size_t i = 0; i < half.layers.size(); ++i) {
    const VaeLayer& layer = half.layers[i];
    std::string name = half.name + "." + half.layers_name + "." + std::to_string(i);
    VaeLayerWeights& loaded = w.layers.emplace_back();
    loaded.layer = layer;
    if (layer.kind == VaeLayer::Kind::kResidual) {
      loaded.residual = load_residual(visitor, name, layer.in_channels, layer.out_channels);
    } else {
      loaded.resample = load_resample(visitor, name, layer);
    }
  }
  w.middle0 = load_residual(visitor, half.name + ".middle.0", half.middle, half.middle);
  w.attention = load_attention(visitor, half.name + ".middle.1", half.middle);
  w.middle2 = load_residual(visitor, half.name + ".middle.2", half.middle, half.middle);
  w.head_gain = visitor.vector(half.name + ".head.0.gamma", {half.last});
  w.head = visitor.conv(half.name + ".head.2", half.out, half.last, kCube);
  return w;
}

void load_normalisation(WeightVisitor& visitor, const WanVaeConfig& config, WanVaeWeights& w) {
  Shape shape{config.z_dim};
  std::vector<float> scale, shift;
  for (size_t c = 0; c < config.std.size(); ++c) {
    scale.push_back(1.0f / config.std[c]);
    shift.push_back(-config.mean[c] / config.std[c]);
  }
  w.to_scale = visitor.keep(scale, shape);
  w.to_shift = visitor.keep(shift, shape);
  w.from_scale = visitor.keep(config.std, shape);
  w.from_shift = visitor.keep(config.mean, shape);
}

}  // namespace

Expected<WanVaeWeights> load_vae_weights(const WanVaeConfig& config, WeightAllocator& loader) {
  int64_t top = config.dim * config.dim_mult.back(), z = config.z_dim;
  WanVaeWeights w;
  w.encoder = load_half(loader, {"encoder", "downsamples", encoder_layers(config), 3, config.dim, top, top, 2 * z});
  w.to_mean = conv_rows(loader, "conv1", {2 * z, 2 * z, 1, 1, 1}, kPoint, {0, z});
  w.from_latent = loader.conv("conv2", z, z, kPoint);
  int64_t last = config.dim * config.dim_mult.front();
  w.decoder = load_half(loader, {"decoder", "upsamples", decoder_layers(config), z, top, top, last, 3});
  load_normalisation(loader, config, w);
  LA_RETURN_IF_ERROR(loader.status());
  w.buffers = loader.take_buffers();
  return w;
}

}  // namespace liveavatar
