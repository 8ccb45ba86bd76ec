#include "session/model_shapes.h"

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
  return invalid_argument("`shape` " + name + ": choose 14b, 1.3b or mini, or give `checkpoint_dir`");
}

}  // namespace liveavatar
