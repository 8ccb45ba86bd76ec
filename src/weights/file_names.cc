#include "weights/file_names.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace liveavatar {
namespace {

constexpr std::array<std::string_view, 5> kEndings{".safetensors", ".gguf", ".pth", ".pt", ".bin"};

}  // namespace

bool is_weights_file(const std::filesystem::path& path) {
  return std::find(kEndings.begin(), kEndings.end(), path.extension().string()) != kEndings.end();
}

std::optional<SplitName> SplitName::parse(const std::string& path) {
  constexpr std::string_view kForm = "-00001-of-00002.gguf";
  if (path.size() <= kForm.size()) return {};
  SplitName name;
  name.stem = path.substr(0, path.size() - kForm.size());
  const std::string ending = path.substr(name.stem.size());
  for (size_t i = 0; i < kForm.size(); ++i) {
    const bool digit = kForm[i] >= '0' && kForm[i] <= '9', is_digit = ending[i] >= '0' && ending[i] <= '9';
    if (digit ? !is_digit : ending[i] != kForm[i]) return {};
  }
  name.number = std::stoi(ending.substr(1, 5));
  name.count = std::stoi(ending.substr(10, 5));
  if (name.number < 1 || name.number > name.count) return {};
  return name;
}

std::string SplitName::path_of(int other_number) const {
  char text[40];
  std::snprintf(text, sizeof(text), "-%05d-of-%05d.gguf", other_number, count);
  return stem + text;
}

}  // namespace liveavatar
