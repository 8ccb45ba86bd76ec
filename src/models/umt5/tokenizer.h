// Prompt to token ids, as the original's fast tokenizer gives them, on top of libsentencepiece.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace liveavatar {

// Immutable after loading; encode() may be called from any thread.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // dir: google/umt5-xxl with spiece.model, and tokenizer.json if it is there (added tokens, byte_fallback).
  static Expected<std::unique_ptr<Tokenizer>> load(const std::string& dir);
  // The cleaned text's ids with EOS at the end, at most `slots` of them; no padding.
  virtual std::vector<int32_t> encode(std::string_view text, int64_t slots) const = 0;
};

}  // namespace liveavatar
