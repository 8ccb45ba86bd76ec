// tokenizer.json beside a good spiece.model, and spiece.model itself. An input that begins with { is the former.
#include <filesystem>

#include "in_memory.h"
#include "models/umt5/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace liveavatar;
  const bool json = bytes > 0 && data[0] == '{';
  fuzz::MemoryFile file(data, bytes, json ? "tokenizer.json" : "spiece.model");
  if (json) {
    std::error_code ignored;
    std::filesystem::create_symlink(LA_SOURCE_DIR "/models/mini/google/umt5-xxl/spiece.model",
                                    file.folder() + "/spiece.model", ignored);
  }
  auto tokenizer = Tokenizer::load(file.folder());
  if (tokenizer.ok()) static_cast<void>((*tokenizer)->encode("A dog </s> <extra_id_3> walks.\xff \xe7\x8a\xac", 64));
  return 0;
}
