// Names as weights/part.h gives them: Hugging Face's, without the prefix wav2vec2.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/folder.h"
#include "core/json.h"
#include "models/wav2vec2/wav2vec2.h"
#include "weights/file_kind.h"
#include "weights/part.h"

namespace liveavatar {
namespace {

Status wrong(const std::string& path, const std::string& why) { return corrupt(path + ": " + why); }

ConvWeight load_position(WeightVisitor& visitor, const Wav2Vec2Config& c) {
  const std::string name = "encoder.pos_conv_embed.conv.";
  Tensor bias = visitor.vector(name + "bias", {c.width});
  Tensor v = merged_position_kernel(c, visitor);
  ConvWeight shape;
  shape.out_channels = shape.in_channels = c.width;
  shape.kernel = {1, 1, c.position_kernel};
  shape.groups = c.position_groups;
  if (!visitor.status().ok()) return shape;
  return visitor.pack_conv(v.reshape({c.width, c.width / c.position_groups, 1, 1, c.position_kernel}), shape, bias);
}

Wav2Vec2LayerWeights load_layer(WeightVisitor& visitor, const Wav2Vec2Config& c, const std::string& name) {
  Wav2Vec2LayerWeights w;
  w.q = visitor.linear(name + "attention.q_proj", c.width, c.width);
  w.k = visitor.linear(name + "attention.k_proj", c.width, c.width);
  w.v = visitor.linear(name + "attention.v_proj", c.width, c.width);
  w.out = visitor.linear(name + "attention.out_proj", c.width, c.width);
  w.up = visitor.linear(name + "feed_forward.intermediate_dense", c.ffn_dim, c.width);
  w.down = visitor.linear(name + "feed_forward.output_dense", c.width, c.ffn_dim);
  w.norm1_weight = visitor.vector(name + "layer_norm.weight", {c.width});
  w.norm1_bias = visitor.vector(name + "layer_norm.bias", {c.width});
  w.norm2_weight = visitor.vector(name + "final_layer_norm.weight", {c.width});
  w.norm2_bias = visitor.vector(name + "final_layer_norm.bias", {c.width});
  return w;
}

// The seven layers of the large models, with layer norms.
void check_extractor(JsonReader& read) {
  auto same = [&](const char* key, const std::array<int64_t, 7>& want) {
    std::vector<int64_t> have = read.numbers(key, 1, 1024);
    return !read.has(key) || std::equal(have.begin(), have.end(), want.begin(), want.end());
  };
  bool kernels = same("conv_kernel", kExtractorKernels), strides = same("conv_stride", kExtractorStrides);
  if (!kernels || !strides) read.fail("another feature extractor than wav2vec2's seven layers");
  bool layer_norm = read.text("feat_extract_norm", "layer") == "layer",
       stable = read.flag("do_stable_layer_norm", true);
  if (!layer_norm || !stable) read.fail("not the large kind (feat_extract_norm layer, do_stable_layer_norm true)");
}

}  // namespace

Tensor merged_position_kernel(const Wav2Vec2Config& c, WeightVisitor& visitor) {
  const std::string name = "encoder.pos_conv_embed.conv.parametrizations.weight.";
  const std::vector<float> lengths = visitor.host_vector(name + "original0", {1, 1, c.position_kernel});
  Tensor v = visitor.read_f32(name + "original1", {c.width, c.width / c.position_groups, c.position_kernel});
  for (int64_t k = 0; !v.empty() && k < c.position_kernel; ++k) {
    double squares = 0;
    for (int64_t i = k; i < v.elements(); i += c.position_kernel)
      squares += double(v.host<float>()[i]) * v.host<float>()[i];
    float factor = static_cast<float>(lengths[size_t(k)] / std::sqrt(squares));
    for (int64_t i = k; i < v.elements(); i += c.position_kernel) v.host<float>()[i] *= factor;
  }
  return v;
}

Expected<Wav2Vec2Weights> load_wav2vec2_weights(const Wav2Vec2Config& c, WeightAllocator& loader) {
  Wav2Vec2Weights w;
  for (size_t i = 0; i < kExtractorKernels.size(); ++i) {
    const std::string name = "feature_extractor.conv_layers." + std::to_string(i);
    Wav2Vec2ConvLayer layer;
    layer.conv = loader.conv(name + ".conv", c.conv_dim, i == 0 ? 1 : c.conv_dim, {1, 1, kExtractorKernels[i]});
    layer.norm_weight = loader.vector(name + ".layer_norm.weight", {c.conv_dim});
    layer.norm_bias = loader.vector(name + ".layer_norm.bias", {c.conv_dim});
    w.extractor.push_back(layer);
  }
  w.projection_norm_weight = loader.vector("feature_projection.layer_norm.weight", {c.conv_dim});
  w.projection_norm_bias = loader.vector("feature_projection.layer_norm.bias", {c.conv_dim});
  w.projection = loader.linear("feature_projection.projection", c.width, c.conv_dim);
  w.position = load_position(loader, c);
  for (int64_t i = 0; i < c.layers && loader.status().ok(); ++i) {
    w.layers.push_back(load_layer(loader, c, "encoder.layers." + std::to_string(i) + "."));
  }
  w.norm_weight = loader.vector("encoder.layer_norm.weight", {c.width});
  w.norm_bias = loader.vector("encoder.layer_norm.bias", {c.width});
  LA_RETURN_IF_ERROR(loader.status());
  w.buffers = loader.take_buffers();
  return w;
}

Expected<Wav2Vec2Config> read_wav2vec2_config(const std::string& dir) {
  const std::string path = dir + "/config.json";
  LA_ASSIGN_OR_RETURN(nlohmann::json json, read_json_file(path));
  constexpr int64_t kMost = 1 << 16;
  JsonReader read(json, path);
  check_extractor(read);
  Wav2Vec2Config c;
  c.width = read.number("hidden_size", 1, kMost);
  c.layers = read.number("num_hidden_layers", 1, kMost);
  c.heads = read.number("num_attention_heads", 1, kMost);
  c.ffn_dim = read.number("intermediate_size", 1, kMost);
  c.position_kernel = read.number("num_conv_pos_embeddings", 1, kMost, 128);
  c.position_groups = read.number("num_conv_pos_embedding_groups", 1, kMost, 16);
  const std::vector<int64_t> conv_dims = read.numbers("conv_dim", 1, kMost);
  if (!conv_dims.empty()) c.conv_dim = conv_dims.front();
  bool even = std::all_of(conv_dims.begin(), conv_dims.end(), [&](int64_t dim) { return dim == c.conv_dim; });
  if (!even) read.fail("conv_dim names layers of different widths; the large models have one");
  c.eps = static_cast<float>(read.real("layer_norm_eps", 1e-12, 0.1, c.eps));
  LA_RETURN_IF_ERROR(read.status());
  if (c.width % c.heads != 0 || c.width % c.position_groups != 0)
    return wrong(path, "hidden_size does not split into its heads and groups");
  return c;
}

Expected<Wav2Vec2Config> read_wav2vec2_shapes(const TensorSource& source) {
  auto dim = [&source](const std::string& name, int axis) {
    auto it = source.tensors().find(name);
    return it == source.tensors().end() || it->second.shape.rank() <= axis ? int64_t{0} : it->second.shape[axis];
  };
  const std::string position = "encoder.pos_conv_embed.conv.parametrizations.weight.original1";
  Wav2Vec2Config c;
  c.conv_dim = dim("feature_projection.projection.weight", 1);
  c.width = dim("feature_projection.projection.weight", 0);
  c.ffn_dim = dim("encoder.layers.0.feed_forward.intermediate_dense.weight", 0);
  c.position_kernel = dim(position, 2);
  int64_t inputs = dim(position, 1);
  while (dim("encoder.layers." + std::to_string(c.layers) + ".layer_norm.weight", 0) > 0) ++c.layers;
  if (c.conv_dim < 1 || c.width < 1 || c.ffn_dim < 1 || c.position_kernel < 1 || inputs < 1 || c.layers < 1 ||
      c.width % inputs != 0) {
    return corrupt(source.where() + ": its shapes are not those of a wav2vec2 encoder; download the file again");
  }
  c.position_groups = c.width / inputs;
  return c;
}

Expected<Wav2Vec2Config> find_wav2vec2_config(const TensorSource& source, const std::string& dir) {
  constexpr int64_t kHeadWidth = 64;  // of every released wav2vec2
  if (!dir.empty() && may_exist(dir + "/config.json")) return read_wav2vec2_config(dir);
  LA_ASSIGN_OR_RETURN(Wav2Vec2Config c, read_wav2vec2_shapes(source));
  c.heads = c.width / kHeadWidth;
  if (c.width % kHeadWidth != 0) {
    return invalid_argument(source.where() + ": " + std::to_string(c.width) +
                            " values do not split into heads of 64; put the model's config.json beside it");
  }
  return c;
}

Expected<std::unique_ptr<Wav2Vec2>> Wav2Vec2::load(const std::string& dir, Backend& backend, Budget& budget,
                                                   DType dtype) {
  for (const char* name : {"/model.safetensors", "/pytorch_model.bin"}) {
    if (may_exist(dir + name)) return load_file(dir, dir + name, backend, budget, dtype);
  }
  LA_RETURN_IF_ERROR(read_wav2vec2_config(dir).status());
  return not_found(dir +
                   ": neither model.safetensors nor pytorch_model.bin is there; download the audio encoder again");
}

Expected<std::unique_ptr<Wav2Vec2>> Wav2Vec2::load_file(const std::string& dir, const std::string& weights,
                                                        Backend& backend, Budget& budget, DType dtype) {
  LA_ASSIGN_OR_RETURN(Wav2Vec2Config config, read_wav2vec2_config(dir));
  LA_ASSIGN_OR_RETURN(TensorSourcePtr source, open_part(weights, Part::kAudioEncoder));
  return load(config, *source, backend, budget, dtype);
}

Expected<std::unique_ptr<Wav2Vec2>> Wav2Vec2::load(const Wav2Vec2Config& config, const TensorSource& source,
                                                   Backend& backend, Budget& budget, DType dtype) {
  std::unique_ptr<Wav2Vec2> model(new Wav2Vec2(backend, dtype));
  model->config_ = config;
  WeightLoader loader(source, backend, budget, MemoryCategory::kAudio, dtype);
  LA_ASSIGN_OR_RETURN(model->weights_, load_wav2vec2_weights(model->config_, loader));
  return model;
}

Expected<std::unique_ptr<Wav2Vec2>> Wav2Vec2::dry_run(const Wav2Vec2Config& config, Backend& backend, Budget& budget,
                                                      DType dtype) {
  std::unique_ptr<Wav2Vec2> model(new Wav2Vec2(backend, dtype));
  model->config_ = config;
  WeightSizer sizer(backend, budget, MemoryCategory::kAudio, dtype);
  LA_ASSIGN_OR_RETURN(model->weights_, load_wav2vec2_weights(config, sizer));
  return model;
}

}  // namespace liveavatar
