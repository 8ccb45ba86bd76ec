#include "models/s2v_dit/config.h"

#include <algorithm>

#include "core/json.h"
#include "weights/file_kind.h"

namespace liveavatar {

int64_t DitConfig::audio_attention_of(int64_t layer) const {
  auto it = std::find(audio_inject_layers.begin(), audio_inject_layers.end(), layer);
  return it == audio_inject_layers.end() ? -1 : it - audio_inject_layers.begin();
}

namespace {

constexpr const char* kVideoSizeKey = "liveavatar_size";

Expected<DitConfig> read_config(const nlohmann::json& json, const std::string& where) {
  JsonReader read(json, where);
  DitConfig c;
  c.dim = read.number("dim", 8, 1 << 16);
  c.heads = read.number("num_heads", 1, 1024);
  c.layers = read.number("num_layers", 1, 1024);
  c.ffn_dim = read.number("ffn_dim", 1, 1 << 20);
  c.freq_dim = read.number("freq_dim", 2, 1 << 16, 256);
  c.text_dim = read.number("text_dim", 1, 1 << 16, 4096);
  c.text_len = read.number("text_len", 1, 1 << 16, 512);
  c.audio_dim = read.number("audio_dim", 1, 1 << 16, 1024);
  c.audio_tokens = read.number("num_audio_token", 1, 64, 4);
  c.channels = read.number("in_dim", 1, 1024, 16);
  c.audio_layers = read.number("num_audio_layers", 1, 1024, 25);
  c.eps = static_cast<float>(read.real("eps", 1e-12, 0.1, c.eps));
  c.audio_inject_layers = read.numbers("audio_inject_layers", 0, c.layers - 1);
  c.video_size = read.text(kVideoSizeKey, "");
  LA_RETURN_IF_ERROR(read.status());
  if (c.dim % c.heads != 0 || c.head_dim() % 2 != 0 || c.head_dim() < 6) {
    return corrupt(where + ": dim " + std::to_string(c.dim) + " does not split into " + std::to_string(c.heads) +
                   " even heads");
  }
  return c;
}

}  // namespace

Expected<DitConfig> parse_dit_config(const std::string& json_text, const std::string& where) {
  LA_ASSIGN_OR_RETURN(nlohmann::json json, parse_json(json_text, where));
  return read_config(json, where);
}

std::string dit_config_json(const DitConfig& c) {
  nlohmann::ordered_json json{{"dim", c.dim},
                              {"num_heads", c.heads},
                              {"num_layers", c.layers},
                              {"ffn_dim", c.ffn_dim},
                              {"freq_dim", c.freq_dim},
                              {"text_dim", c.text_dim},
                              {"text_len", c.text_len},
                              {"audio_dim", c.audio_dim},
                              {"num_audio_layers", c.audio_layers},
                              {"num_audio_token", c.audio_tokens},
                              {"in_dim", c.channels},
                              {"eps", c.eps},
                              {"audio_inject_layers", c.audio_inject_layers}};
  if (!c.video_size.empty()) json[kVideoSizeKey] = c.video_size;
  return json_text(json);
}

Expected<DitConfig> read_dit_config(const std::string& json_path) {
  auto json = read_json_file(json_path);
  if (json.status().code() == ErrorCode::kNotFound)
    return not_found(json.status().message() + "; a checkpoint folder has the model's config.json");
  LA_RETURN_IF_ERROR(json.status());
  return read_config(*json, json_path);
}

}  // namespace liveavatar
