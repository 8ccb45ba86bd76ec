#include "core/json.h"

#include <cmath>

namespace liveavatar {
namespace {

// Within int64_t; unsigned numbers may be beyond.
bool in_range(const nlohmann::json& value, int64_t low, int64_t high) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned())
    return high >= 0 && value.get<uint64_t>() <= static_cast<uint64_t>(high) && value.get<int64_t>() >= low;
  return value.get<int64_t>() >= low && value.get<int64_t>() <= high;
}

std::string whole_number(int64_t low, int64_t high) {
  return "a whole number from " + std::to_string(low) + " to " + std::to_string(high);
}

}  // namespace

std::string json_kind(const nlohmann::json& value) {
  constexpr size_t kMostChars = 40;
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  std::string text = json_text(value);
  return text.size() <= kMostChars ? text : text.substr(0, kMostChars) + "...";
}

JsonReader::JsonReader(const nlohmann::json& json, std::string where) : json_(json), where_(std::move(where)) {
  if (!json.is_object()) fail("not a JSON object");
}

void JsonReader::fail(const std::string& why) {
  if (status_.ok()) status_ = corrupt(where_ + ": " + why + "; download or copy the file again");
}

void JsonReader::expected(const char* key, const std::string& what) {
  std::string found = has(key) ? " is " + json_kind(json_[key]) + ", it must be " : " is missing, it must be ";
  fail(key + found + what);
}

int64_t JsonReader::number(const char* key, int64_t low, int64_t high) {
  if (has(key) && in_range(json_[key], low, high)) return json_[key].get<int64_t>();
  expected(key, whole_number(low, high));
  return low;
}

int64_t JsonReader::number(const char* key, int64_t low, int64_t high, int64_t fallback) {
  return has(key) ? number(key, low, high) : fallback;
}

double JsonReader::real(const char* key, double low, double high, double fallback) {
  if (!has(key)) return fallback;
  double value = json_[key].is_number() ? json_[key].get<double>() : NAN;
  if (value >= low && value <= high) return value;
  char range[80];
  std::snprintf(range, sizeof(range), "a number from %g to %g", low, high);
  expected(key, range);
  return fallback;
}

bool JsonReader::flag(const char* key, bool fallback) {
  if (!has(key)) return fallback;
  if (json_[key].is_boolean()) return json_[key].get<bool>();
  expected(key, "true or false");
  return fallback;
}

std::string JsonReader::text(const char* key, const std::string& fallback) {
  if (!has(key)) return fallback;
  if (json_[key].is_string()) return json_[key].get<std::string>();
  expected(key, "a text");
  return fallback;
}

std::vector<int64_t> JsonReader::numbers(const char* key, int64_t low, int64_t high) {
  std::vector<int64_t> values;
  if (!has(key)) return values;
  if (!json_[key].is_array()) {
    expected(key, "a list of whole numbers");
    return values;
  }
  for (const auto& item : json_[key]) {
    if (!in_range(item, low, high)) {
      fail(std::string(key) + " holds " + json_kind(item) + ", each must be " + whole_number(low, high));
      return {};
    }
    values.push_back(item.get<int64_t>());
  }
  return values;
}

}  // namespace liveavatar
