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
  // path: a folder (google/umt5-xxl) with spiece.model, and tokenizer.json if it is there (added tokens,
  // byte_fallback); or a spiece.model; or a text encoder's file that holds one (models/umt5/spiece_model.h).
  static Expected<std::unique_ptr<Tokenizer>> load(const std::string& path);
  // The cleaned text's ids with EOS at the end, at most `slots` of them; no padding.
  virtual std::vector<int32_t> encode(std::string_view text, int64_t slots) const = 0;
  // The ids of a text that is clean already, without EOS.
  virtual std::vector<int32_t> encode_clean(const std::string& text) const = 0;
};

}  // namespace liveavatar
