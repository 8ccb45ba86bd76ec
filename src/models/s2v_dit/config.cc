#include "models/s2v_dit/config.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace liveavatar {

int64_t DitConfig::injector_of(int64_t layer) const {
  auto it = std::find(audio_inject_layers.begin(), audio_inject_layers.end(), layer);
  return it == audio_inject_layers.end() ? -1 : it - audio_inject_layers.begin();
}

namespace {

// Reads whole numbers; the first key that is missing or out of range sticks.
class Reader {
 public:
  Reader(const nlohmann::json& json, std::string where) : json_(json), where_(std::move(where)) {}

  int64_t number(const char* key, int64_t low, int64_t high, int64_t fallback = -1) {
    if (!json_.contains(key) && fallback >= 0) return fallback;
    bool good = json_.contains(key) && json_[key].is_number_integer();
    int64_t value = good ? json_[key].get<int64_t>() : 0;
    if (!good || value < low || value > high) {
      fail(std::string(key) + " must be a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    }
    return value;
  }
  void fail(const std::string& why) {
    if (status_.ok()) status_ = corrupt(where_ + ": " + why);
  }
  const Status& status() const { return status_; }

 private:
  const nlohmann::json& json_;
  std::string where_;
  Status status_;
};

}  // namespace

Expected<DitConfig> parse_dit_config(const std::string& json_text, const std::string& where) {
  nlohmann::json json = nlohmann::json::parse(json_text, nullptr, false);
  if (!json.is_object()) return corrupt(where + ": not a JSON object");
  Reader read(json, where);
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
  if (json.contains("eps") && json["eps"].is_number()) c.eps = json["eps"].get<float>();
  for (const auto& layer : json.value("audio_inject_layers", nlohmann::json::array())) {
    if (!layer.is_number_integer() || layer.get<int64_t>() < 0 || layer.get<int64_t>() >= c.layers) {
      read.fail("audio_inject_layers names a layer that is not there");
      break;
    }
    c.audio_inject_layers.push_back(layer);
  }
  LA_RETURN_IF_ERROR(read.status());
  if (c.dim % c.heads != 0 || c.head_dim() % 2 != 0 || c.head_dim() < 6) {
    return corrupt(where + ": dim " + std::to_string(c.dim) + " does not split into " + std::to_string(c.heads) +
                   " even heads");
  }
  return c;
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
  return json.dump();
}

Expected<DitConfig> read_dit_config(const std::string& json_path) {
  std::ifstream file(json_path);
  if (!file) return not_found(json_path + ": cannot be read; a checkpoint folder has the model's config.json");
  std::stringstream text;
  text << file.rdbuf();
  return parse_dit_config(text.str(), json_path);
}

}  // namespace liveavatar
