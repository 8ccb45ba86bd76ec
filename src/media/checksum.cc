#include "media/checksum.h"

#include <new>

extern "C" {
#include <libavutil/mem.h>
#include <libavutil/murmur3.h>
}

namespace liveavatar {
namespace {

AVMurMur3* murmur(void* state) { return static_cast<AVMurMur3*>(state); }

}  // namespace

void Checksum::Free::operator()(void* memory) const { av_free(memory); }

Checksum::Checksum() : state_(av_murmur3_alloc()) {
  if (state_ == nullptr) throw std::bad_alloc();
  av_murmur3_init(murmur(state_.get()));
}

void Checksum::add(std::span<const std::byte> bytes) {
  av_murmur3_update(murmur(state_.get()), reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

Checksum::Value Checksum::end() {
  Value value;
  av_murmur3_final(murmur(state_.get()), value.data());
  av_murmur3_init(murmur(state_.get()));
  return value;
}

}  // namespace liveavatar
