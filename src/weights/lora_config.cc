// PEFT's adapter_config.json.
#include <map>
#include <regex>

#include "core/json.h"
#include "weights/file_kind.h"
#include "weights/lora.h"

namespace liveavatar {
namespace {

using nlohmann::json;

constexpr size_t kLongestName = 512, kLongestPattern = 256;

std::string whole_pattern(const std::string& pattern) { return "(.*\\.)?(" + pattern + ")"; }

// A regular expression that is quick on any name: no repeated group, and few choices. The library's matcher tries them
// all: two for an alternative or an optional piece, as many as the name is long for a repetition.
bool is_pattern(const std::string& pattern) {
  constexpr int kMostWeight = 8, kOfRepetition = 3;
  int weight = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    bool repeats = pattern[i] == '*' || pattern[i] == '+' || pattern[i] == '{';
    bool chooses = pattern[i] == '|' || pattern[i] == '?';
    weight += repeats ? kOfRepetition : chooses ? 1 : 0;
    if (repeats && i > 0 && pattern[i - 1] == ')') return false;
  }
  if (pattern.size() > kLongestPattern || weight > kMostWeight) return false;
  try {
    std::regex check(whole_pattern(pattern));
    return true;
  } catch (const std::regex_error&) {
    return false;
  }
}

// The first pattern that is all of the module's name, or its end after a dot; or the value for all.
double by_pattern(const std::vector<std::pair<std::string, double>>& patterns, const std::string& module,
                  double for_all) {
  // The library's matcher recurses for each character: long names are no modules' anyway.
  if (module.size() > kLongestName) return for_all;
  for (const auto& [pattern, value] : patterns) {
    if (std::regex_match(module, std::regex(whole_pattern(pattern)))) return value;
  }
  return for_all;
}

constexpr double kLargestAlpha = 1e9;
constexpr int64_t kLargestRank = 1 << 20;
using Patterns = std::vector<std::pair<std::string, double>>;

// Reads the fields of a config. Keeps the first error.
class ConfigReader {
 public:
  ConfigReader(const json& fields, std::string path) : fields_(fields), path_(std::move(path)), read_(fields, path_) {}

  Expected<PeftConfig> read();

 private:
  void refuse(const std::string& what) {
    read_.fail(
        unsupported(path_ + ": " + what + " is not merged here; merge the adapter with PEFT where it was trained"));
  }
  void refuse_variants();
  Patterns patterns(const char* name, bool ranks);

  const json& fields_;
  std::string path_;
  JsonReader read_;
};

Patterns ConfigReader::patterns(const char* name, bool ranks) {
  Patterns result;
  if (!read_.has(name)) return result;
  const json& given = read_.at(name);
  if (!given.is_object()) {
    read_.expected(name, "an object");
    return result;
  }
  JsonReader items(given, path_ + ": " + name);
  for (const auto& [pattern, unused] : given.items()) {
    const char* key = pattern.c_str();
    double value = ranks ? static_cast<double>(items.number(key, 1, kLargestRank))
                         : items.real(key, -kLargestAlpha, kLargestAlpha);
    result.emplace_back(pattern, value);
    if (!is_pattern(pattern))
      items.fail(pattern + " must be a regular expression with few repetitions and alternatives");
  }
  read_.fail(items.status());
  return result;
}

// Options with which an adapter is more than alpha / rank times a product.
void ConfigReader::refuse_variants() {
  if (!read_.has("peft_type")) read_.expected("peft_type", "a text");
  if (std::string type = read_.text("peft_type", ""); type != "LORA") refuse("peft_type " + type);
  for (const auto& [name, value] : fields_.items()) {
    if (name.starts_with("use_") && name != "use_rslora" && read_.flag(name.c_str(), false)) refuse(name);
  }
  for (const char* name : {"fan_in_fan_out", "lora_bias"}) {
    if (read_.flag(name, false)) refuse(name);
  }
  for (const char* name : {"layer_replication", "trainable_token_indices", "target_parameters"}) {
    const json& value = read_.at(name);
    if (!value.is_null() && !(value.is_structured() && value.empty())) refuse(name);
  }
  // These start from changed base weights.
  const json& start = read_.at("init_lora_weights");
  if (!start.is_string()) return;
  const std::string way = start.get<std::string>();
  for (const char* changed : {"pissa", "olora", "corda", "loftq"}) {
    if (way.starts_with(changed)) refuse("init_lora_weights " + way);
  }
}

Expected<PeftConfig> ConfigReader::read() {
  LA_RETURN_IF_ERROR(read_.status());  // no object
  refuse_variants();
  PeftConfig config;
  config.rank = read_.number("r", 1, kLargestRank);
  config.alpha = read_.real("lora_alpha", -kLargestAlpha, kLargestAlpha);
  config.root_of_rank = read_.flag("use_rslora", false);
  config.alpha_pattern = patterns("alpha_pattern", false);
  config.rank_pattern = patterns("rank_pattern", true);
  LA_RETURN_IF_ERROR(read_.status());
  return config;
}

}  // namespace

double PeftConfig::alpha_of(const std::string& module) const { return by_pattern(alpha_pattern, module, alpha); }
double PeftConfig::rank_of(const std::string& module) const {
  return by_pattern(rank_pattern, module, static_cast<double>(rank));
}

// PEFT writes null for options that are not set.
Expected<PeftConfig> read_peft_config(const std::string& path) {
  LA_ASSIGN_OR_RETURN(json fields, read_json_file(path));
  if (fields.is_object())
    std::erase_if(fields.get_ref<json::object_t&>(), [](const auto& f) { return f.second.is_null(); });
  return ConfigReader(fields, path).read();
}

}  // namespace liveavatar
