// PyTorch archives (.pth): zip directory, pickle, storages, as every part of a checkpoint.
#include "in_memory.h"
#include "read_all.h"
#include "weights/part.h"
#include "weights/pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace liveavatar;
  static_cast<void>(read_pickle(std::string(reinterpret_cast<const char*>(data), bytes), "data.pkl").ok());
  fuzz::MemoryFile file(data, bytes, "model.pth");
  for (bool unwrap : {false, true}) {
    auto source = open_torch(file.path(), unwrap);
    if (source.ok()) fuzz::read_all(**source);
  }
  for (Part part : {Part::kTextEncoder, Part::kVae}) {
    auto source = open_part(file.path(), part);
    if (source.ok()) fuzz::read_all(**source);
  }
  return 0;
}
