#include "models/wan_vae/weights.h"

namespace liveavatar {
namespace {

using Kernel = std::array<int64_t, 3>;
constexpr Kernel kCausal{3, 3, 3}, kSpatial{1, 3, 3}, kTime{3, 1, 1};

// The first or second `count` output rows of a weight and bias that hold several matrices one after the other.
LinearWeight rows_of(WeightLoader& loader, const std::vector<float>& weight, const Tensor& bias, int64_t first, int64_t n, int64_t k) {
  if (!loader.status().ok()) return {};
  return loader.pack_linear(weight.data() + first * k, n, k, bias.slice(first, n));
}

VaeResBlock load_res_block(WeightLoader& loader, const std::string& name, int64_t in, int64_t out) {
  VaeResBlock block;
  block.gain1 = loader.vector(name + ".residual.0.gamma", {in});
  block.conv1 = loader.conv(name + ".residual.2", out, in, kCausal);
  block.gain2 = loader.vector(name + ".residual.3.gamma", {out});
  block.conv2 = loader.conv(name + ".residual.6", out, out, kCausal);
  if (in != out) block.shortcut = loader.linear(name + ".shortcut", out, in);
  return block;
}

VaeMiddle load_middle(WeightLoader& loader, const std::string& name, int64_t c) {
  VaeMiddle middle;
  middle.before = load_res_block(loader, name + ".0", c, c);
  middle.attention.gain = loader.vector(name + ".1.norm.gamma", {c});
  std::vector<float> qkv = loader.read_f32(name + ".1.to_qkv.weight", {3 * c, c});
  Tensor bias = loader.vector(name + ".1.to_qkv.bias", {3 * c});
  middle.attention.q = rows_of(loader, qkv, bias, 0, c, c);
  middle.attention.k = rows_of(loader, qkv, bias, c, c, c);
  middle.attention.v = rows_of(loader, qkv, bias, 2 * c, c, c);
  middle.attention.proj = loader.linear(name + ".1.proj", c, c);
  middle.after = load_res_block(loader, name + ".2", c, c);
  return middle;
}

// [2 C, C, 3, 1, 1] -> two convolutions of C channels each.
void load_time_up(WeightLoader& loader, const std::string& name, int64_t c, VaeResample& resample) {
  std::vector<float> weight = loader.read_f32(name + ".weight", {2 * c, c, 3, 1, 1});
  Tensor bias = loader.vector(name + ".bias", {2 * c});
  if (!loader.status().ok()) return;
  ConvWeight shape;
  shape.out_channels = shape.in_channels = c;
  shape.kernel = kTime;
  Shape half{c, c, 3, 1, 1};
  resample.even = loader.pack_conv(Tensor(weight.data(), half, DType::kF32), shape, bias.slice(0, c));
  resample.odd = loader.pack_conv(Tensor(weight.data() + half.elements(), half, DType::kF32), shape, bias.slice(c, c));
}

VaeEncoderWeights load_encoder(const WanVaeConfig& c, WeightLoader& loader) {
  VaeEncoderWeights w;
  w.conv_in = loader.conv("encoder.conv1", c.dim, 3, kCausal);
  int64_t in = c.dim, index = 0;
  auto next = [&index] { return "encoder.downsamples." + std::to_string(index++); };
  for (size_t s = 0; s < c.dim_mult.size(); ++s) {
    VaeStage stage;
    for (int64_t b = 0; b < c.res_blocks; ++b) {
      stage.blocks.push_back(load_res_block(loader, next(), in, c.width(s)));
      in = c.width(s);
    }
    if (s + 1 < c.dim_mult.size()) {
      std::string name = next();
      stage.resample.emplace();
      stage.resample->conv = loader.conv(name + ".resample.1", in, in, kSpatial);
      if (c.temporal_downsample[s]) stage.resample->time = loader.conv(name + ".time_conv", in, in, kTime);
    }
    w.stages.push_back(std::move(stage));
  }
  w.middle = load_middle(loader, "encoder.middle", in);
  w.head_gain = loader.vector("encoder.head.0.gamma", {in});
  w.head = loader.conv("encoder.head.2", 2 * c.z_dim, in, kCausal);
  std::vector<float> conv1 = loader.read_f32("conv1.weight", {2 * c.z_dim, 2 * c.z_dim, 1, 1, 1});
  Tensor bias = loader.vector("conv1.bias", {2 * c.z_dim});
  w.to_latent = rows_of(loader, conv1, bias, 0, c.z_dim, 2 * c.z_dim);
  return w;
}

VaeDecoderWeights load_decoder(const WanVaeConfig& c, WeightLoader& loader) {
  VaeDecoderWeights w;
  size_t last = c.dim_mult.size() - 1;
  int64_t in = c.width(last), index = 0;
  w.from_latent = loader.linear("conv2", c.z_dim, c.z_dim);
  w.conv_in = loader.conv("decoder.conv1", in, c.z_dim, kCausal);
  w.middle = load_middle(loader, "decoder.middle", in);
  auto next = [&index] { return "decoder.upsamples." + std::to_string(index++); };
  for (size_t s = 0; s <= last; ++s) {
    VaeStage stage;
    int64_t out = c.width(last - s);
    for (int64_t b = 0; b < c.res_blocks + 1; ++b) {
      stage.blocks.push_back(load_res_block(loader, next(), in, out));
      in = out;
    }
    if (s < last) {
      std::string name = next();
      stage.resample.emplace();
      if (c.temporal_downsample[last - 1 - s]) load_time_up(loader, name + ".time_conv", out, *stage.resample);
      stage.resample->conv = loader.conv(name + ".resample.1", out / 2, out, kSpatial);
      in = out / 2;
    }
    w.stages.push_back(std::move(stage));
  }
  w.head_gain = loader.vector("decoder.head.0.gamma", {in});
  w.head = loader.conv("decoder.head.2", 3, in, kCausal);
  return w;
}

}  // namespace

Expected<VaeWeights> load_vae_weights(const WanVaeConfig& c, WeightLoader& loader) {
  VaeWeights w;
  w.encoder = load_encoder(c, loader);
  w.decoder = load_decoder(c, loader);
  std::vector<float> scale, shift, std(c.std.begin(), c.std.end()), mean(c.mean.begin(), c.mean.end());
  for (size_t i = 0; i < c.std.size(); ++i) {
    scale.push_back(1.0f / c.std[i]);
    shift.push_back(-c.mean[i] / c.std[i]);
  }
  w.encode_scale = loader.keep(scale, {c.z_dim});
  w.encode_shift = loader.keep(shift, {c.z_dim});
  w.decode_scale = loader.keep(std, {c.z_dim});
  w.decode_shift = loader.keep(mean, {c.z_dim});
  LA_RETURN_IF_ERROR(loader.status());
  w.buffers = loader.take_buffers();
  return w;
}

}  // namespace liveavatar
