// The model's sizes from the shapes of its tensors.

#include "core/folder.h"
#include "models/s2v_dit/config.h"

namespace liveavatar {
namespace {

constexpr int64_t kHeadWidth = 128;  // in every released Wan model
constexpr int64_t kReleasedLayers = 40;
const std::vector<int64_t> kReleasedAudioLayers{0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39};

int64_t dim_of(const TensorSource& source, const std::string& name, int axis) {
  auto it = source.tensors().find(name);
  if (it == source.tensors().end() || it->second.shape.rank() <= axis) return 0;
  return it->second.shape[axis];
}

// How many modules <prefix><i>.<rest> there are in a row.
int64_t count_of(const TensorSource& source, const std::string& prefix, const std::string& rest) {
  int64_t count = 0;
  while (dim_of(source, prefix + std::to_string(count) + rest, 0) > 0) ++count;
  return count;
}

// The input channels of a kernel [out, in, 1, 2, 2], or of a file that merged its first two dimensions.
int64_t kernel_inputs(const TensorSource& source, const std::string& name, int64_t outputs) {
  constexpr int64_t kTaps = 4;
  auto it = source.tensors().find(name);
  return it == source.tensors().end() || outputs < 1 ? 0 : it->second.shape.elements() / outputs / kTaps;
}

}  // namespace

Expected<DitShapes> read_dit_shapes(const TensorSource& source) {
  constexpr int64_t kPatchValues = 4;
  DitShapes s;
  DitConfig& c = s.config;
  c.dim = dim_of(source, "blocks.0.self_attn.q.weight", 0);
  c.layers = count_of(source, "blocks.", ".self_attn.q.weight");
  c.ffn_dim = dim_of(source, "blocks.0.ffn.0.weight", 0);
  c.text_dim = dim_of(source, "text_embedding.0.weight", 1);
  c.freq_dim = dim_of(source, "time_embedding.0.weight", 1);
  c.channels = kernel_inputs(source, "patch_embedding.weight", c.dim);
  c.audio_dim = dim_of(source, "casual_audio_encoder.encoder.conv1_local.conv.weight", 1);
  int64_t local = dim_of(source, "casual_audio_encoder.encoder.conv1_local.conv.weight", 0);
  c.audio_tokens = c.dim < 4 ? 0 : local / (c.dim / 4);
  auto states = source.tensors().find("casual_audio_encoder.weights");
  c.audio_layers = states == source.tensors().end() ? 0 : states->second.shape.elements();
  s.out_channels = dim_of(source, "head.head.weight", 0) / kPatchValues;
  s.pose_channels = kernel_inputs(source, "cond_encoder.weight", c.dim);
  s.audio_attentions = count_of(source, "audio_injector.injector.", ".q.weight");
  s.adain = count_of(source, "audio_injector.injector_adain_layers.", ".linear.weight") > 0;
  if (c.audio_dim == 0 || c.audio_layers == 0) {
    return corrupt(source.where() +
                   ": has no audio encoder (casual_audio_encoder); this is not a speech-to-video (S2V) model");
  }
  for (int64_t size : {c.dim, c.layers, c.ffn_dim, c.text_dim, c.freq_dim, c.channels, c.audio_tokens}) {
    if (size < 1 || size > (1 << 20))
      return corrupt(source.where() + ": a tensor that tells a size of the model is missing or misshapen");
  }
  return s;
}

Expected<DitConfig> find_dit_config(const TensorSource& source, const std::string& json_path) {
  if (!json_path.empty() && may_exist(json_path)) return read_dit_config(json_path);
  LA_ASSIGN_OR_RETURN(DitShapes shapes, read_dit_shapes(source));
  DitConfig c = shapes.config;
  bool released = c.layers == kReleasedLayers && shapes.audio_attentions == int64_t(kReleasedAudioLayers.size());
  if (c.dim % kHeadWidth != 0 || !released) {
    return invalid_argument(source.where() + ": its shapes do not tell its heads and audio layers (" +
                            std::to_string(c.layers) + " layers of width " + std::to_string(c.dim) +
                            ", not the released 14B model); put the "
                            "model's config.json beside it");
  }
  c.heads = c.dim / kHeadWidth;
  c.audio_inject_layers = kReleasedAudioLayers;
  return c;
}

}  // namespace liveavatar
