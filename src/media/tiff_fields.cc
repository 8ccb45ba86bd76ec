#include "media/tiff_fields.h"

#include <algorithm>

namespace liveavatar {

TiffFields::TiffFields(Reader reader) : reader_(std::move(reader)) {
  std::string head = reader_(0, 8);
  if (head.size() < 8 || (head.substr(0, 2) != "II" && head.substr(0, 2) != "MM")) return;
  big_endian_ = head[0] == 'M';
  if (number(head, 2, 2) != 42) return;
  int64_t directory = number(head, 4, 4);
  std::string count = reader_(directory, 2);
  if (count.size() < 2) return;
  entries_ = reader_(directory + 2, number(count, 0, 2) * 12);
  valid_ = true;
}

int64_t TiffFields::number(const std::string& bytes, size_t at, int size) const {
  int64_t value = 0;
  for (int i = 0; i < size; ++i) {
    size_t byte = at + static_cast<size_t>(big_endian_ ? i : size - 1 - i);
    value = value << 8 | static_cast<uint8_t>(bytes[byte]);
  }
  return value;
}

std::vector<int64_t> TiffFields::values(int tag, int64_t most) const {
  constexpr int kSizes[] = {0, 1, 0, 2, 4};  // of types 1 byte, 3 short, 4 long
  std::vector<int64_t> values;
  for (size_t at = 0; at + 12 <= entries_.size(); at += 12) {
    if (number(entries_, at, 2) != tag) continue;
    int64_t type = number(entries_, at + 2, 2), count = std::min(number(entries_, at + 4, 4), most);
    int size = type >= 0 && type <= 4 ? kSizes[type] : 0;
    if (size == 0) return values;
    bool inside = number(entries_, at + 4, 4) * size <= 4;
    std::string bytes = inside ? entries_.substr(at + 8, 4) : reader_(number(entries_, at + 8, 4), count * size);
    for (int64_t i = 0; i < count && (i + 1) * size <= static_cast<int64_t>(bytes.size()); ++i)
      values.push_back(number(bytes, static_cast<size_t>(i * size), size));
    return values;
  }
  return values;
}

int64_t TiffFields::value(int tag, int64_t otherwise) const {
  std::vector<int64_t> all = values(tag, 1);
  return all.empty() ? otherwise : all[0];
}

}  // namespace liveavatar
