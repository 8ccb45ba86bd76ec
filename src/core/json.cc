#include "core/json.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace liveavatar {
namespace {

// low and high are int64_t; the value may be an unsigned number above that range.
bool in_range(const nlohmann::json& value, int64_t low, int64_t high) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned())
    return high >= 0 && value.get<uint64_t>() <= static_cast<uint64_t>(high) && value.get<int64_t>() >= low;
  return value.get<int64_t>() >= low && value.get<int64_t>() <= high;
}

std::string whole_number(int64_t low, int64_t high) {
  return "a whole number from " + std::to_string(low) + " to " + std::to_string(high);
}

// Checks a text before it is parsed. (The parser's own callback scans all earlier values at each end of a value, and
// its exceptions describe its internals.)
class TextCheck : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit TextCheck(JsonKeys keys) : keys_(keys) {}
  size_t bad_byte = 0;
  std::string why;  // empty: not JSON at bad_byte

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override {
    if (keys_ == JsonKeys::kOnce) seen_.emplace_back();
    return deeper();
  }
  bool key(string_t& name) override {
    if (keys_ == JsonKeys::kAny || seen_.back().insert(name).second) return true;
    why = "names " + name + " twice";
    return false;
  }
  bool end_object() override {
    if (keys_ == JsonKeys::kOnce) seen_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(size_t) override { return deeper(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    bad_byte = position == 0 ? 0 : position - 1;
    return false;
  }

 private:
  bool deeper() {
    constexpr int kDeepest = 64;  // later code recurses into it
    if (++depth_ <= kDeepest) return true;
    why = "its JSON is nested deeper than " + std::to_string(kDeepest);
    return false;
  }
  JsonKeys keys_;
  int depth_ = 0;
  std::vector<std::set<std::string>> seen_;
};

}  // namespace

template <typename Json>
Expected<Json> parse_json(const std::string& text, const std::string& where, JsonKeys keys) {
  TextCheck check(keys);
  if (!nlohmann::json::sax_parse(text, &check)) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(check.bad_byte, text.size()));
    std::string why = check.why;
    if (why.empty()) {
      why = "not JSON at line " + std::to_string(1 + std::count(text.begin(), end, '\n')) + ", byte " +
            std::to_string(check.bad_byte);
    }
    return corrupt(where + ": " + why + "; download or copy the file again");
  }
  return Json::parse(text, nullptr, false);
}
template Expected<nlohmann::json> parse_json(const std::string&, const std::string&, JsonKeys);
template Expected<nlohmann::ordered_json> parse_json(const std::string&, const std::string&, JsonKeys);

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
  fail(corrupt(where_ + ": " + why + "; download or copy the file again"));
}

void JsonReader::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

const nlohmann::json& JsonReader::at(const char* key) const {
  static const nlohmann::json kNone;
  auto found = json_.find(key);  // end if it is not an object
  return found == json_.end() ? kNone : *found;
}

void JsonReader::expected(const char* key, const std::string& what) {
  std::string found = has(key) ? " is " + json_kind(at(key)) + ", it must be " : " is missing, it must be ";
  fail(key + found + what);
}

int64_t JsonReader::number(const char* key, int64_t low, int64_t high) {
  if (has(key) && in_range(at(key), low, high)) return at(key).get<int64_t>();
  expected(key, whole_number(low, high));
  return low;
}

int64_t JsonReader::number(const char* key, int64_t low, int64_t high, int64_t fallback) {
  return has(key) ? number(key, low, high) : fallback;
}

double JsonReader::real(const char* key, double low, double high, double fallback) {
  return has(key) ? real(key, low, high) : fallback;
}

double JsonReader::real(const char* key, double low, double high) {
  double value = at(key).is_number() ? at(key).get<double>() : NAN;
  if (value >= low && value <= high) return value;
  char range[80];
  std::snprintf(range, sizeof(range), "a number from %g to %g", low, high);
  expected(key, range);
  return low;
}

bool JsonReader::flag(const char* key, bool fallback) {
  if (!has(key)) return fallback;
  if (at(key).is_boolean()) return at(key).get<bool>();
  expected(key, "true or false");
  return fallback;
}

std::string JsonReader::text(const char* key, const std::string& fallback) {
  if (!has(key)) return fallback;
  if (at(key).is_string()) return at(key).get<std::string>();
  expected(key, "a text");
  return fallback;
}

std::vector<int64_t> JsonReader::numbers(const char* key, int64_t low, int64_t high) {
  std::vector<int64_t> values;
  if (!has(key)) return values;
  if (!at(key).is_array()) {
    expected(key, "a list of whole numbers");
    return values;
  }
  for (const auto& item : at(key)) {
    if (!in_range(item, low, high)) {
      fail(std::string(key) + " holds " + json_kind(item) + ", each must be " + whole_number(low, high));
      return {};
    }
    values.push_back(item.get<int64_t>());
  }
  return values;
}

}  // namespace liveavatar
