// LoRA adapters merged into a small video model.
#include "in_memory.h"
#include "read_all.h"
#include "weights/lora.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace liveavatar;
  static const TensorSourcePtr base = synthetic_tensors({{"blocks.0.self_attn.q.weight", {96, 96}},
                                                         {"blocks.0.self_attn.q.bias", {96}},
                                                         {"blocks.0.ffn.0.weight", {224, 96}},
                                                         {"blocks.0.norm3.weight", {96}},
                                                         {"blocks.0.modulation", {1, 6, 96}},
                                                         {"patch_embedding.weight", {96, 16, 1, 2, 2}},
                                                         {"audio_injector.injector.0.q.weight", {96, 96}}},
                                                        1);
  fuzz::MemoryFile file(data, bytes, "adapter.safetensors");
  auto adapter = open_lora(file.path());
  if (!adapter.ok()) return 0;
  auto merge = merge_lora(base, *std::move(adapter));
  if (merge.ok()) fuzz::read_all(*merge->source);
  return 0;
}
