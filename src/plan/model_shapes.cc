#include "plan/model_shapes.h"

#include "weights/packed_file.h"
#include "weights/part.h"

namespace liveavatar {
namespace {

ModelShapes shapes_14b() {
  ModelShapes s;
  s.dit.dim = 5120;
  s.dit.heads = 40;
  s.dit.layers = 40;
  s.dit.ffn_dim = 13824;
  s.dit.audio_inject_layers = {0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39};
  s.vae.dim = 96;
  s.vae.mean.assign(static_cast<size_t>(s.vae.z_dim), 0.0f);
  s.vae.std.assign(static_cast<size_t>(s.vae.z_dim), 1.0f);
  s.text = {.dim = 4096,
            .attention_dim = 4096,
            .ffn_dim = 10240,
            .vocabulary = 256384,
            .heads = 64,
            .layers = 24,
            .buckets = 32};
  s.audio = {.width = 1024, .layers = 24, .heads = 16, .ffn_dim = 4096, .conv_dim = 512};
  return s;
}

ModelShapes shapes_1_3b() {
  ModelShapes s = shapes_14b();
  s.dit.dim = 1536;
  s.dit.heads = 12;
  s.dit.layers = 30;
  s.dit.ffn_dim = 8960;
  s.dit.audio_inject_layers = {0, 3, 6, 9, 12, 15, 18, 20, 22, 25, 27, 29};
  return s;
}

ModelShapes shapes_mini() {
  ModelShapes s = shapes_14b();
  s.dit.dim = 192;
  s.dit.heads = 4;
  s.dit.layers = 6;
  s.dit.ffn_dim = 768;
  s.dit.text_dim = s.dit.text_len = 64;
  s.dit.audio_dim = 96;
  s.dit.audio_layers = 5;
  s.dit.audio_inject_layers = {0, 1, 2, 3, 4};
  s.vae.dim = 8;
  s.text = {.dim = 64, .attention_dim = 64, .ffn_dim = 160, .vocabulary = 543, .heads = 4, .layers = 2, .buckets = 32};
  s.audio = {.width = 96, .layers = 4, .heads = 4, .ffn_dim = 256, .conv_dim = 32};
  return s;
}

}  // namespace

Expected<ModelShapes> named_model_shapes(const std::string& name) {
  if (name == "14b") return shapes_14b();
  if (name == "1.3b") return shapes_1_3b();
  if (name == "mini") return shapes_mini();
  return invalid_argument("--shape " + name + ": choose 14b, 1.3b or mini, or give --ckpt_dir");
}

Expected<DitConfig> find_dit_config(const PartPaths& paths) {
  if (!paths.dit_config.empty()) return read_dit_config(paths.dit_config);
  LA_ASSIGN_OR_RETURN(TensorSourcePtr source, open_part(paths.dit, Part::kVideoModel));
  return find_dit_config(*source, "");
}

Expected<ModelShapes> read_model_shapes(const PartPaths& paths, const std::string& packed_dit) {
  ModelShapes s;
  if (packed_dit.empty()) {
    LA_ASSIGN_OR_RETURN(s.dit, find_dit_config(paths));
  } else {
    LA_ASSIGN_OR_RETURN(PackedHeader header, read_packed_header(packed_dit));
    LA_ASSIGN_OR_RETURN(s.dit, parse_dit_config(header.config, packed_dit));
  }
  LA_ASSIGN_OR_RETURN(TensorSourcePtr vae, open_part(paths.vae, Part::kVae));
  LA_ASSIGN_OR_RETURN(s.vae, read_vae_config(*vae));
  LA_ASSIGN_OR_RETURN(TensorSourcePtr text, open_part(paths.text_encoder, Part::kTextEncoder));
  LA_ASSIGN_OR_RETURN(s.text, read_umt5_config(*text));
  LA_ASSIGN_OR_RETURN(TensorSourcePtr audio, open_part(paths.audio_encoder, Part::kAudioEncoder));
  LA_ASSIGN_OR_RETURN(s.audio, find_wav2vec2_config(*audio, paths.audio_config_dir));
  return s;
}

}  // namespace liveavatar
