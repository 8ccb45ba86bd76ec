// GGUF files: header, blocks, the vocabulary of a text encoder.
#include "in_memory.h"
#include "read_all.h"
#include "weights/gguf_vocabulary.h"
#include "weights/part.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace liveavatar;
  fuzz::MemoryFile file(data, bytes, "model.gguf");
  auto source = open_gguf(file.path());
  if (source.ok()) fuzz::read_all(**source);
  for (Part part : {Part::kVideoModel, Part::kTextEncoder}) {
    auto opened = open_part(file.path(), part);
    if (opened.ok()) fuzz::read_all(**opened);
  }
  auto vocabulary = read_gguf_vocabulary(file.path());
  static_cast<void>(vocabulary.ok());
  return 0;
}
