// Reads and writes JSON. Written strings may hold any bytes. Values that are read are checked for type and range.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/status.h"

namespace liveavatar {

// Parses untrusted text as json or ordered_json. kCorrupt if it is not JSON or is nested too deep: "WHERE: not JSON at
// line 3, byte 47; ...". Keys that occur twice in an object: an error with kOnce, else the last one counts.
enum class JsonKeys { kAny, kOnce };
template <typename Json = nlohmann::json>
Expected<Json> parse_json(const std::string& text, const std::string& where, JsonKeys keys = JsonKeys::kAny);

// JSON as text. Bytes that are not UTF-8 (for example a Latin-1 folder name) become the replacement character.
template <typename Json>
std::string json_text(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// A description of a value, for messages: "5", "\"x\"", "a list".
std::string json_kind(const nlohmann::json& value);

// Reads keys of an object. Keeps the first error: "FILE: KEY is FOUND, it must be EXPECTED".
class JsonReader {
 public:
  // `where` is the file, for messages. json outlives the reader. kCorrupt if it is not an object.
  JsonReader(const nlohmann::json& json, std::string where);

  // A missing key gives the fallback. Without a fallback it is an error.
  int64_t number(const char* key, int64_t low, int64_t high);
  int64_t number(const char* key, int64_t low, int64_t high, int64_t fallback);
  double real(const char* key, double low, double high);
  double real(const char* key, double low, double high, double fallback);
  bool flag(const char* key, bool fallback);
  std::string text(const char* key, const std::string& fallback);
  // Integers from low to high. A missing key gives an empty list.
  std::vector<int64_t> numbers(const char* key, int64_t low, int64_t high);
  // The value of a key, or null.
  const nlohmann::json& at(const char* key) const;
  bool has(const char* key) const { return json_.is_object() && json_.contains(key); }

  void fail(const std::string& why);
  void fail(Status status);
  const Status& status() const { return status_; }
  // Fails with: the value is not what it must be.
  void expected(const char* key, const std::string& what);

 private:
  const nlohmann::json& json_;
  std::string where_;
  Status status_;
};

}  // namespace liveavatar
