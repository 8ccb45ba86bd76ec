// Information from the names of weight files.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace liveavatar {

constexpr std::string_view kShardIndex = ".safetensors.index.json";  // suffix of the index of a sharded model

// From the extension.
bool is_weights_file(const std::filesystem::path& path);

// One file of a split GGUF: <stem>-00001-of-00002.gguf, counted from 1.
struct SplitName {
  std::string stem;  // with the folder
  int number = 1, count = 1;

  static std::optional<SplitName> parse(const std::string& path);
  std::string path_of(int other_number) const;
};

}  // namespace liveavatar
