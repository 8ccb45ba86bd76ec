// The tokenizer in a GGUF file of a T5 encoder: arrays of its header.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace liveavatar {

struct GgufVocabulary {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;        // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::string precompiled_charsmap;  // of SentencePiece's normaliser; empty: none
  int32_t unknown_id = 2, eos_id = 1, pad_id = 0;
  bool add_space_prefix = true, remove_extra_whitespaces = true;
};

// Error: not a GGUF file, no tokenizer (kNotFound), or arrays of different lengths.
Expected<GgufVocabulary> read_gguf_vocabulary(const std::string& path);

}  // namespace liveavatar
