// What the names of files of weights say.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace liveavatar {

constexpr std::string_view kShardIndex = ".safetensors.index.json";  // how the index of a model in shards ends

// By the ending of its name.
bool is_weights_file(const std::filesystem::path& path);

// One file of a split GGUF: <stem>-00001-of-00002.gguf, counted from 1.
struct SplitName {
  std::string stem;  // with the folder
  int number = 1, count = 1;

  static std::optional<SplitName> parse(const std::string& path);
  std::string path_of(int other_number) const;
};

}  // namespace liveavatar
