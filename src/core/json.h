// JSON in and out. Written JSON takes any bytes; what is read is checked for type and range.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/status.h"

namespace liveavatar {

// A text from outside. kCorrupt for what is no JSON or is nested absurdly deep: "WHERE: not JSON at line 3, byte 47;
// ...". Of ordered_json the same. Keys that occur twice in an object are an error where they must not (kOnce), else the
// last one counts.
enum class JsonKeys { kAny, kOnce };
template <typename Json = nlohmann::json>
Expected<Json> parse_json(const std::string& text, const std::string& where, JsonKeys keys = JsonKeys::kAny);

// As text; bytes that are no UTF-8 (a folder's Latin-1 name) become the replacement character.
template <typename Json>
std::string json_text(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// What a value is, for messages: "5", "\"x\"", "a list".
std::string json_kind(const nlohmann::json& value);

// Reads keys of an object. What is wrong sticks, the first of it: "FILE: KEY is FOUND, it must be EXPECTED".
class JsonReader {
 public:
  // `where` is the file, for messages. json outlives the reader; kCorrupt where it is no object.
  JsonReader(const nlohmann::json& json, std::string where);

  // A key that is not there gives the fallback; without one it is an error.
  int64_t number(const char* key, int64_t low, int64_t high);
  int64_t number(const char* key, int64_t low, int64_t high, int64_t fallback);
  double real(const char* key, double low, double high);
  double real(const char* key, double low, double high, double fallback);
  bool flag(const char* key, bool fallback);
  std::string text(const char* key, const std::string& fallback);
  // Whole numbers from low to high; not there: none.
  std::vector<int64_t> numbers(const char* key, int64_t low, int64_t high);
  // The value of a key; null where there is none.
  const nlohmann::json& at(const char* key) const;
  bool has(const char* key) const { return json_.is_object() && json_.contains(key); }

  void fail(const std::string& why);
  void fail(Status status);
  const Status& status() const { return status_; }
  // A value that is not what it must be.
  void expected(const char* key, const std::string& what);

 private:
  const nlohmann::json& json_;
  std::string where_;
  Status status_;
};

}  // namespace liveavatar
