// Prompts' embeddings and portraits' latents, kept by content for the next video on the same models: an engine that
// makes many videos of one face does not encode it again.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/memory.h"

namespace liveavatar {

// Values in host memory, the least recently used dropped first. Not thread-safe.
class ConditionCache {
 public:
  // Reserves limit_bytes of the host budget, which outlives it: what is kept never takes more. kOutOfMemory if they are
  // not left.
  static Expected<std::unique_ptr<ConditionCache>> open(Budget& host, size_t limit_bytes);

  // The content itself, so that two are never mistaken for one another.
  static std::string prompt_key(std::span<const int32_t> ids);
  static std::string portrait_key(std::span<const uint8_t> rgb, int64_t height, int64_t width);

  // f32, in host memory; null: not kept. Valid until the next keep().
  const std::vector<OwnedTensor>* find(const std::string& key);
  // Copies f32 tensors of host memory. What is larger than the limit is not kept.
  void keep(const std::string& key, std::initializer_list<Tensor> values);

 private:
  struct Entry {
    std::string key;
    Charge key_charge;
    std::vector<OwnedTensor> values;
  };
  explicit ConditionCache(std::unique_ptr<Budget> budget) : budget_(std::move(budget)) {}
  Expected<Entry> copy(const std::string& key, std::initializer_list<Tensor> values);

  std::unique_ptr<Budget> budget_;
  std::list<Entry> entries_;  // the last used first
};

}  // namespace liveavatar
