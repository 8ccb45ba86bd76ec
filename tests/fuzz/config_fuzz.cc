// Every JSON that a checkpoint brings: configs of the models, an adapter's, a shard index.
#include <string>

#include "in_memory.h"
#include "models/s2v_dit/config.h"
#include "models/wav2vec2/wav2vec2.h"
#include "weights/lora.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace liveavatar;
  std::string text(reinterpret_cast<const char*>(data), bytes);
  auto dit = parse_dit_config(text, "config.json");
  if (dit.ok()) static_cast<void>(parse_dit_config(dit_config_json(*dit), "again").ok());
  fuzz::MemoryFile file(data, bytes, "config.json");
  static_cast<void>(read_wav2vec2_config(file.folder()).ok());
  auto peft = read_peft_config(file.path());
  if (peft.ok()) static_cast<void>(peft->alpha_of("blocks.0.self_attn.q") + peft->rank_of("blocks.1.ffn.0"));
  return 0;
}
