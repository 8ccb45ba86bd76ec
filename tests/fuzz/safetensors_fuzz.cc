// safetensors headers, quantisation metadata and companions, as every part of a checkpoint.
#include "in_memory.h"
#include "read_all.h"
#include "weights/part.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace liveavatar;
  fuzz::MemoryFile file(data, bytes, "model.safetensors");
  for (Part part : {Part::kVideoModel, Part::kTextEncoder, Part::kVae, Part::kAudioEncoder}) {
    auto source = open_part(file.path(), part);
    if (source.ok()) fuzz::read_all(**source);
  }
  return 0;
}
