#include "weights/weights_key.h"

#include <algorithm>
#include <cstdio>
#include <string_view>

namespace liveavatar {
namespace {

// FNV-1a.
class Hash {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) value_ = (value_ ^ static_cast<unsigned char>(c)) * 1099511628211u;
  }
  void add_text(std::string_view text) {
    add(text);
    add(std::string_view("\0", 1));
  }
  void add_number(double number) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.17g", number);
    add_text(text);
  }
  std::string text() const {
    char text[17];
    std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value_));
    return text;
  }

 private:
  uint64_t value_ = 14695981039346656037u;
};

using Tensors = std::vector<std::pair<std::string, TensorInfo>>;

void add_infos(const Tensors& tensors, Hash& hash) {
  for (const auto& [name, info] : tensors) {
    hash.add_text(name);
    hash.add_text(dtype_name(info.dtype));
    hash.add_text(info.stored == nullptr ? "" : info.stored);
    for (int i = 0; i < info.shape.rank(); ++i) hash.add_number(static_cast<double>(info.shape[i]));
  }
}

// The middle row of tensors all over the file: training changes most values of most tensors.
Status add_values(const TensorSource& source, const Tensors& tensors, Hash& hash) {
  constexpr size_t kRows = 64;
  const size_t rows = std::min(kRows, tensors.size());
  std::vector<char> values;
  for (size_t i = 0; i < rows; ++i) {
    const auto& [name, info] = tensors[i * tensors.size() / rows];
    const Shape& shape = info.shape;
    if (shape.rank() < 1 || shape.elements() == 0) continue;
    const int64_t width = shape[shape.rank() - 1], middle = shape.elements() / width / 2;
    values.resize(static_cast<size_t>(width) * dtype_bytes(info.dtype));
    LA_RETURN_IF_ERROR(source.read_part(name, {middle * width, width}, values.data()));
    hash.add({values.data(), values.size()});
  }
  return {};
}

Status add_tensors(const TensorSource& source, Hash& hash) {
  const Tensors tensors(source.tensors().begin(), source.tensors().end());
  add_infos(tensors, hash);
  return add_values(source, tensors, hash);
}

void add_patterns(const std::vector<std::pair<std::string, double>>& patterns, Hash& hash) {
  hash.add_number(static_cast<double>(patterns.size()));
  for (const auto& [pattern, value] : patterns) {
    hash.add_text(pattern);
    hash.add_number(value);
  }
}

void add_settings(const LoraAdapter& adapter, Hash& hash) {
  hash.add_number(adapter.strength);
  hash.add_text(adapter.alpha ? "alpha" : "");
  hash.add_number(adapter.alpha.value_or(0));
  if (!adapter.peft) return;
  hash.add_number(static_cast<double>(adapter.peft->rank));
  hash.add_number(adapter.peft->alpha);
  hash.add_text(adapter.peft->root_of_rank ? "root of rank" : "rank");
  add_patterns(adapter.peft->alpha_pattern, hash);
  add_patterns(adapter.peft->rank_pattern, hash);
}

// The part before the hash: keys of two kinds tell nothing about each other.
std::string_view kind_of(std::string_view key) { return key.substr(0, key.rfind(' ')); }

}  // namespace

Expected<std::string> weights_key(const TensorSource& base, const std::vector<LoraAdapter>& adapters) {
  Hash hash;
  LA_RETURN_IF_ERROR(add_tensors(base, hash));
  for (const LoraAdapter& adapter : adapters) {  // in their order, which counts
    LA_RETURN_IF_ERROR(add_tensors(*adapter.source, hash));
    add_settings(adapter, hash);
  }
  return "tensors " + hash.text();
}

std::string weights_key(const PackedHeader& header) {
  Hash hash;
  for (const PackedPage& page : header.pages) {
    hash.add_text(page.name);
    hash.add_text(std::to_string(page.checksum));
  }
  return "packed as " + header.packing + " " + header.dtype + " " + hash.text();
}

bool may_be_same_weights(const std::string& a, const std::string& b) { return a == b || kind_of(a) != kind_of(b); }

}  // namespace liveavatar
