#include "models/wan_vae/config.h"

#include <string>

namespace liveavatar {

namespace {

// Per-channel statistics of raw latents, published with Wan 2.1.
constexpr int64_t kLatentChannels = 16;
constexpr float kMean[kLatentChannels] = {-0.7571f, -0.7089f, -0.9113f, 0.1075f,  -0.1745f, 0.9653f,
                                          -0.1517f, 1.5508f,  0.4134f,  -0.0715f, 0.5517f,  -0.3632f,
                                          -0.1922f, -0.9497f, 0.2503f,  -0.2921f};
constexpr float kStd[kLatentChannels] = {2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f, 2.6052f, 2.0743f,
                                         3.2687f, 2.1526f, 2.8652f, 1.5579f, 1.6382f, 1.1253f, 2.8251f, 1.9160f};
constexpr int64_t kStages = 4;

Status unlike_wan(const TensorSource& source, const std::string& what) {
  return corrupt(source.where() + ": " + what + "; this is not a Wan 2.1 VAE, take Wan2.1_VAE.pth of the checkpoint");
}

// The number of output channels of a convolution.
Expected<int64_t> channels_of(const TensorSource& source, const std::string& conv) {
  auto it = source.tensors().find(conv + ".weight");
  if (it == source.tensors().end()) {
    return not_found(source.where() + ": tensor " + conv + ".weight is missing; take Wan2.1_VAE.pth of the checkpoint");
  }
  const Shape& shape = it->second.shape;
  if (shape.rank() < 2 || shape[0] <= 0) return unlike_wan(source, "tensor " + conv + ".weight is " + shape.str());
  return shape[0];
}

bool has_prefix(const TensorSource& source, const std::string& prefix) {
  auto it = source.tensors().lower_bound(prefix);
  return it != source.tensors().end() && it->first.starts_with(prefix);
}

std::string downsample_name(int64_t i) { return "encoder.downsamples." + std::to_string(i); }

Status read_stages(const TensorSource& source, WanVaeConfig& config) {
  int64_t layers = 0;
  while (has_prefix(source, downsample_name(layers) + ".")) ++layers;
  if (layers <= kStages || (layers - (kStages - 1)) % kStages != 0) {
    return unlike_wan(source, "encoder.downsamples has " + std::to_string(layers) + " modules in a row, not " +
                                  std::to_string(kStages) + " equal stages with a downsampling between each two");
  }
  config.num_res_blocks = (layers - (kStages - 1)) / kStages;
  int temporal = 0;
  for (int64_t stage = 0; stage < kStages; ++stage) {
    int64_t first = stage * (config.num_res_blocks + 1);
    std::string name = downsample_name(first) + ".residual.6";
    LA_ASSIGN_OR_RETURN(int64_t channels, channels_of(source, name));
    if (channels % config.dim != 0 || channels % 2 != 0) {
      return unlike_wan(source, name + " has " + std::to_string(channels) + " channels");
    }
    config.dim_mult[static_cast<size_t>(stage)] = channels / config.dim;
    if (stage == kStages - 1) continue;
    bool in_time = has_prefix(source, downsample_name(first + config.num_res_blocks) + ".time_conv.");
    config.temporal_downsample[static_cast<size_t>(stage)] = in_time;
    temporal += in_time;
  }
  if (temporal != 2) return unlike_wan(source, "it halves time " + std::to_string(temporal) + " times, not twice");
  return {};
}

int64_t conv_flops(int64_t out_values, int64_t in_channels, int64_t taps) {
  return 2 * out_values * in_channels * taps;
}

// Of residual blocks and resampling; x is moved on to the layer's output.
int64_t layer_flops(const VaeLayer& layer, Shape& x) {
  Shape in = x;
  x = layer.out_shape(in);
  int64_t i = layer.in_channels, o = layer.out_channels;
  if (layer.kind == VaeLayer::Kind::kResidual) {
    return conv_flops(x.elements(), i + o, 27) + (i == o ? 0 : conv_flops(x.elements(), i, 1));
  }
  bool down = layer.kind == VaeLayer::Kind::kDownsample;
  int64_t spatial_frames = down ? in[0] : x[0];
  int64_t sums = conv_flops(spatial_frames * x[1] * x[2] * o, i, 9);
  if (layer.temporal) sums += down ? conv_flops(x.elements(), o, 3) : conv_flops(2 * in.elements(), i, 3);
  return sums;
}

// Two residual blocks and the attention between them.
int64_t middle_flops(const Shape& x) {
  int64_t tokens = x[1] * x[2], channels = x[3];
  int64_t attention = conv_flops(x.elements(), channels, 4) + 4 * x[0] * tokens * tokens * channels;
  return 2 * conv_flops(x.elements(), 2 * channels, 27) + attention;
}

Shape with_channels(const Shape& x, int64_t channels) { return {x[0], x[1], x[2], channels}; }

}  // namespace

Expected<WanVaeConfig> read_vae_config(const TensorSource& source) {
  WanVaeConfig config;
  LA_ASSIGN_OR_RETURN(config.dim, channels_of(source, "encoder.conv1"));
  LA_ASSIGN_OR_RETURN(config.z_dim, channels_of(source, "conv2"));
  if (config.z_dim != kLatentChannels) {
    return unlike_wan(source, "conv2.weight makes " + std::to_string(config.z_dim) + " channels, not " +
                                  std::to_string(kLatentChannels));
  }
  LA_RETURN_IF_ERROR(read_stages(source, config));
  config.mean.assign(std::begin(kMean), std::end(kMean));
  config.std.assign(std::begin(kStd), std::end(kStd));
  return config;
}

Shape VaeLayer::out_shape(const Shape& x) const {
  LA_CHECK(x.rank() == 4 && x[3] == in_channels);
  switch (kind) {
    case Kind::kResidual:
      return {x[0], x[1], x[2], out_channels};
    case Kind::kDownsample:
      return {temporal ? x[0] / 2 : x[0], x[1] / 2, x[2] / 2, out_channels};
    case Kind::kUpsample:
      return {temporal ? x[0] * 2 : x[0], x[1] * 2, x[2] * 2, out_channels};
  }
  return x;
}

std::vector<VaeLayer> encoder_layers(const WanVaeConfig& config) {
  std::vector<VaeLayer> layers;
  int64_t channels = config.dim;
  for (size_t stage = 0; stage < config.dim_mult.size(); ++stage) {
    int64_t out = config.dim * config.dim_mult[stage];
    for (int64_t i = 0; i < config.num_res_blocks; ++i) {
      layers.push_back({VaeLayer::Kind::kResidual, channels, out});
      channels = out;
    }
    if (stage + 1 == config.dim_mult.size()) break;
    layers.push_back({VaeLayer::Kind::kDownsample, channels, channels, config.temporal_downsample[stage]});
  }
  return layers;
}

std::vector<VaeLayer> decoder_layers(const WanVaeConfig& config) {
  std::vector<VaeLayer> layers;
  int64_t channels = config.dim * config.dim_mult.back();
  for (size_t stage = config.dim_mult.size(); stage-- > 0;) {
    int64_t out = config.dim * config.dim_mult[stage];
    for (int64_t i = 0; i <= config.num_res_blocks; ++i) {
      layers.push_back({VaeLayer::Kind::kResidual, channels, out});
      channels = out;
    }
    if (stage == 0) break;
    layers.push_back({VaeLayer::Kind::kUpsample, channels, channels / 2, config.temporal_downsample[stage - 1]});
    channels /= 2;
  }
  return layers;
}

int64_t fixed_point_latent(const WanVaeConfig& config) {
  int64_t constant_from = 2;  // frame from which the output of conv1 is constant: a 3-frame kernel has a reach of 2
  for (const VaeLayer& layer : encoder_layers(config)) {
    if (layer.kind == VaeLayer::Kind::kResidual) {
      constant_from += 4;
    } else if (layer.temporal) {
      constant_from = (constant_from + 1) / 2 + 1;  // frame j of it sees frames 2j-2, 2j-1, 2j
    }
  }
  return constant_from + 2 * 4 + 2;  // two residual blocks of the middle, head
}

size_t priming_layers(const WanVaeConfig& config, int64_t left) {
  std::vector<VaeLayer> layers = decoder_layers(config);
  int64_t reach = 2;  // frames before the end that must be correct; after the last layer: those in the head's cache
  size_t count = layers.size();
  for (; count > 0; --count) {
    const VaeLayer& layer = layers[count - 1];
    if (layer.kind == VaeLayer::Kind::kResidual) reach += 4;  // two convolutions with a reach of two frames each
    if (layer.temporal || left * kVaeFrames < reach) break;  // earlier layers have fewer frames, and all of them matter
  }
  return count;
}

int64_t decode_flops_per_frame(const WanVaeConfig& config, int64_t latent_height, int64_t latent_width) {
  Shape x{1, latent_height, latent_width, config.dim * config.dim_mult.back()};
  int64_t latent_values = latent_height * latent_width * config.z_dim;
  int64_t sums =
      conv_flops(latent_values, config.z_dim, 1) + conv_flops(x.elements(), config.z_dim, 27) + middle_flops(x);
  for (const VaeLayer& layer : decoder_layers(config)) sums += layer_flops(layer, x);
  sums += conv_flops(with_channels(x, 3).elements(), x[3], 27);
  return sums / kVaeFrames;
}

int64_t encode_flops_per_latent(const WanVaeConfig& config, int64_t height, int64_t width) {
  Shape x{kVaeFrames, height, width, config.dim};
  int64_t sums = conv_flops(x.elements(), 3, 27);
  for (const VaeLayer& layer : encoder_layers(config)) sums += layer_flops(layer, x);
  sums += middle_flops(x) + conv_flops(with_channels(x, 2 * config.z_dim).elements(), x[3], 27);
  return sums + conv_flops(with_channels(x, config.z_dim).elements(), 2 * config.z_dim, 1);
}

}  // namespace liveavatar
