#include "paging/page_store.h"

#include <cstring>

namespace liveavatar {

void PageChecksum::add(const std::byte* data, size_t bytes) {
  LA_CHECK(bytes % 32 == 0);
  for (size_t at = 0; at < bytes; at += 32) {
    uint64_t words[4];
    std::memcpy(words, data + at, 32);
    for (int i = 0; i < 4; ++i) sums_[i] = (sums_[i] ^ words[i]) * 0x9E3779B97F4A7C15u + (sums_[i] >> 31);
  }
}

uint64_t PageChecksum::value() const { return sums_[0] ^ (sums_[1] * 3) ^ (sums_[2] * 5) ^ (sums_[3] * 7); }

uint64_t page_checksum(const std::byte* data, size_t bytes) {
  PageChecksum checksum;
  checksum.add(data, bytes);
  return checksum.value();
}

Status PageStore::write(size_t, const PageRange&, const std::byte*, const std::atomic<bool>&) {
  LA_CHECK(false && "these pages never change");
  return {};
}

Status FilePages::read(size_t page, const PageRange& range, std::byte* target, const std::atomic<bool>& stop) {
  PageSpan& span = spans_[page];
  LA_RETURN_IF_ERROR(file_->read(span.offset + range.begin, target, range.bytes, stop));
  if (!span.checksum) return {};
  if (range.begin == 0) checksum_ = {};
  checksum_.add(target, range.bytes);
  if (range.begin + range.bytes < span.bytes) return {};
  if (checksum_.value() != *span.checksum) return damaged(span);
  span.checksum.reset();
  return {};
}

Status FilePages::damaged(const PageSpan& span) const {
  return corrupt(file_->path() + ": is damaged in the " + gb_text(span.bytes) + " behind byte " +
                 std::to_string(span.offset) + "; remove it, and run `liveavatar convert` or the job again");
}

Status HostPages::read(size_t page, const PageRange& range, std::byte* target, const std::atomic<bool>&) {
  std::memcpy(target, pages_[page].data() + range.begin, range.bytes);
  return {};
}

}  // namespace liveavatar
