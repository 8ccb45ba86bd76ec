// Writes GGUF files for tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace liveavatar {

class GgufWriter {
 public:
  explicit GgufWriter(const std::string& architecture = "wan") { text("general.architecture", architecture); }

  uint32_t version = 3, alignment = 32;

  void text(const std::string& key, const std::string& value) { pair(key, 8, string(value)); }
  void number(const std::string& key, uint32_t value) { pair(key, 4, bytes(value)); }
  void numbers(const std::string& key, const std::vector<int32_t>& values) {
    std::string body = bytes(uint32_t{5}) + bytes(uint64_t{values.size()});
    for (int32_t v : values) body += bytes(v);
    pair(key, 9, body);
  }
  // One more pair of any type.
  void pair(const std::string& key, uint32_t type, const std::string& value) {
    pairs_ += string(key) + bytes(type) + value;
    ++pair_count_;
  }
  // shape: outermost first.
  void tensor(const std::string& name, const std::vector<uint64_t>& shape, uint32_t type, const std::string& data) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment, '\0');
    tensor_at(name, shape, type, data_.size());
    data_ += data;
  }
  // Described at any offset.
  void tensor_at(const std::string& name, const std::vector<uint64_t>& shape, uint32_t type, uint64_t offset) {
    infos_ += string(name) + bytes(static_cast<uint32_t>(shape.size()));
    for (size_t i = shape.size(); i-- > 0;) infos_ += bytes(shape[i]);
    infos_ += bytes(type) + bytes(offset);
    ++tensor_count_;
  }
  std::string file() const {
    std::string out = "GGUF";
    for (const std::string& part : {bytes(version), bytes(tensor_count_), bytes(pair_count_), pairs_, infos_})
      out += part;
    out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    return out + data_;
  }

  template <typename T>
  static std::string bytes(T value) {
    return {reinterpret_cast<const char*>(&value), sizeof(value)};
  }
  static std::string string(const std::string& text) { return bytes(uint64_t{text.size()}) + text; }

 private:
  uint64_t tensor_count_ = 0, pair_count_ = 0;
  std::string pairs_, infos_, data_;
};

}  // namespace liveavatar
