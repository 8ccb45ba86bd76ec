// PEFT's adapter_config.json.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "weights/lora.h"

namespace liveavatar {
namespace {

using nlohmann::json;

constexpr size_t kLongestName = 512, kLongestPattern = 256;

std::string whole_pattern(const std::string& pattern) { return "(.*\\.)?(" + pattern + ")"; }

// A regular expression that is quick on any name: no repeated group, and few repetitions.
bool is_pattern(const std::string& pattern) {
  constexpr int kMostRepetitions = 2;
  int repetitions = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    bool repeats = pattern[i] == '*' || pattern[i] == '+' || pattern[i] == '{';
    repetitions += repeats ? 1 : 0;
    if (repeats && i > 0 && pattern[i - 1] == ')') return false;
  }
  if (pattern.size() > kLongestPattern || repetitions > kMostRepetitions) return false;
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

// Reads the fields of a config; the first thing that is wrong sticks.
class ConfigReader {
 public:
  ConfigReader(std::string path, const json& fields) : path_(std::move(path)), fields_(fields) {}

  const Status& status() const { return status_; }
  void fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  void wrong(const std::string& name, const std::string& wanted) {
    fail(corrupt(path_ + ": " + name + " must be " + wanted + "; the file is damaged"));
  }
  void refuse(const std::string& what) {
    fail(unsupported(path_ + ": " + what + " is not merged here; merge the adapter with PEFT where it was trained"));
  }
  // Null where it is absent or null.
  const json* field(const std::string& name) const {
    auto found = fields_.find(name);
    return found == fields_.end() || found->is_null() ? nullptr : &*found;
  }
  bool flag(const std::string& name) {
    const json* value = field(name);
    if (value == nullptr) return false;
    if (!value->is_boolean()) wrong(name, "true or false");
    return value->is_boolean() && value->get<bool>();
  }
  double number(const std::string& name, const json* value, bool positive_integer) {
    const bool good = value != nullptr && value->is_number() && std::isfinite(value->get<double>()) &&
                      (!positive_integer || (value->is_number_integer() && value->get<double>() >= 1));
    if (!good) wrong(name, positive_integer ? "a positive integer" : "a number");
    return good ? value->get<double>() : 0;
  }
  std::vector<std::pair<std::string, double>> patterns(const std::string& name, bool positive_integer);
  void refuse_variants();

 private:
  std::string path_;
  const json& fields_;
  Status status_;
};

std::vector<std::pair<std::string, double>> ConfigReader::patterns(const std::string& name, bool positive_integer) {
  std::vector<std::pair<std::string, double>> result;
  const json* value = field(name);
  if (value == nullptr) return result;
  if (!value->is_object()) {
    wrong(name, "an object");
    return result;
  }
  for (const auto& [pattern, number_of] : value->items()) {
    result.emplace_back(pattern, number(name + "." + pattern, &number_of, positive_integer));
    if (!is_pattern(pattern)) wrong(name + "." + pattern, "a regular expression with few repetitions");
  }
  return result;
}

// What makes more of an adapter than alpha / rank times a product.
void ConfigReader::refuse_variants() {
  const json* type = field("peft_type");
  if (type == nullptr || !type->is_string()) return wrong("peft_type", "a text");
  if (*type != "LORA") return refuse("peft_type " + type->get<std::string>());
  for (const auto& [name, value] : fields_.items()) {
    if (name.starts_with("use_") && name != "use_rslora" && flag(name)) refuse(name);
  }
  for (const char* name : {"fan_in_fan_out", "lora_bias"}) {
    if (flag(name)) refuse(name);
  }
  for (const char* name : {"layer_replication", "trainable_token_indices", "target_parameters"}) {
    const json* value = field(name);
    if (value != nullptr && !(value->is_structured() && value->empty())) refuse(name);
  }
  // These start from changed base weights.
  const json* start = field("init_lora_weights");
  if (start == nullptr || !start->is_string()) return;
  const std::string way = start->get<std::string>();
  for (const char* changed : {"pissa", "olora", "corda", "loftq"}) {
    if (way.starts_with(changed)) refuse("init_lora_weights " + way);
  }
}

}  // namespace

double PeftConfig::alpha_of(const std::string& module) const { return by_pattern(alpha_pattern, module, alpha); }
double PeftConfig::rank_of(const std::string& module) const {
  return by_pattern(rank_pattern, module, static_cast<double>(rank));
}

Expected<PeftConfig> read_peft_config(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return io_error(path + ": cannot be read; check its permissions");
  const json fields = json::parse(file, nullptr, false);
  if (!fields.is_object()) return corrupt(path + ": is not JSON; download or copy the file again");
  ConfigReader reader(path, fields);
  reader.refuse_variants();
  PeftConfig config;
  config.rank = static_cast<int64_t>(reader.number("r", reader.field("r"), true));
  config.alpha = reader.number("lora_alpha", reader.field("lora_alpha"), false);
  config.root_of_rank = reader.flag("use_rslora");
  config.alpha_pattern = reader.patterns("alpha_pattern", false);
  config.rank_pattern = reader.patterns("rank_pattern", true);
  LA_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace liveavatar
