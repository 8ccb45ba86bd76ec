#include "core/size_text.h"

#include <cstdio>

namespace liveavatar {
namespace {

constexpr size_t kMiB = size_t{1} << 20, kThousandths = 1000;

std::string bytes_text(size_t bytes) { return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes"); }

std::string mib_with_digits(size_t thousandths) {
  char text[40];
  std::snprintf(text, sizeof(text), "%zu.%03zuMiB", thousandths / kThousandths, thousandths % kThousandths);
  return text;
}

}  // namespace

std::string mib(size_t bytes) {
  const size_t part = bytes % (size_t{1} << 20) == 0 ? 0 : 1;  // rounded up, without overflow
  return std::to_string((bytes >> 20) + part) + " MiB";
}

std::string limit_text(size_t bytes) {
  if (bytes < kMiB) return bytes_text(bytes);
  const size_t whole = bytes / kMiB, rest = bytes % kMiB;
  if (rest == 0) return std::to_string(whole) + "MiB";
  return mib_with_digits(whole * kThousandths + rest * kThousandths / kMiB) + " (" + bytes_text(bytes) + ")";
}

std::string need_text(size_t bytes, size_t limit) {
  const size_t whole = bytes / kMiB, rest = bytes % kMiB, up = whole + (rest > 0 ? 1 : 0);
  if (bytes > limit || up <= limit / kMiB) return std::to_string(up) + "MiB";
  const size_t thousandths = whole * kThousandths + (rest * kThousandths + kMiB - 1) / kMiB;
  const size_t shown_limit = limit / kMiB * kThousandths + limit % kMiB * kThousandths / kMiB;
  return thousandths <= shown_limit ? mib_with_digits(thousandths) : bytes_text(bytes);
}

}  // namespace liveavatar
