// Reads the header of a GGUF file sequentially: numbers, strings and key-value pairs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "weights/file.h"

namespace liveavatar {

// Types of a key's value.
enum class GgufValue : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kFloat32,
  kBoolean,
  kString,
  kArray,
  kU64,
  kI64,
  kFloat64
};

// Keeps the first error; all reads after it give zeros.
class GgufReader {
 public:
  explicit GgufReader(std::shared_ptr<const File> file) : file_(std::move(file)) {}

  template <typename T>
  T number() {
    T value{};
    bytes(&value, sizeof(T));
    return value;
  }
  std::string text();
  void bytes(void* target, size_t count);
  void skip(uint64_t count);
  void fail(const std::string& why);
  const Status& status() const { return status_; }
  uint64_t at() const { return at_; }
  const File& file() const { return *file_; }

 private:
  std::shared_ptr<const File> file_;
  Status status_;
  uint64_t at_ = 0, begin_ = 0;
  std::vector<char> window_;
};

// A key of the header. An array has `count` values of type `item`.
struct GgufKey {
  std::string name;
  GgufValue type = GgufValue::kU8, item = GgufValue::kU8;
  uint64_t count = 0;

  bool is_array_of(GgufValue t) const { return type == GgufValue::kArray && item == t; }
};

struct GgufCounts {
  uint64_t tensors = 0, pairs = 0;
};
// Reads magic, version and counts. The reader is then at the first pair.
Expected<GgufCounts> read_gguf_start(GgufReader& reader);
// Reads all pairs. visit reads the value and returns true, or returns false to skip the value.
Status read_gguf_pairs(GgufReader& reader, uint64_t pairs, const std::function<bool(const GgufKey&)>& visit);

}  // namespace liveavatar
