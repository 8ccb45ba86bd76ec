// The first directory of a TIFF file, or of an EXIF block, which has the same structure.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace liveavatar {

class TiffFields {
 public:
  using Reader = std::function<std::string(int64_t offset, int64_t count)>;
  explicit TiffFields(Reader reader);
  bool valid() const { return valid_; }
  // Values of a field of bytes, shorts or longs; at most `most` of them. Empty: not there.
  std::vector<int64_t> values(int tag, int64_t most) const;
  int64_t value(int tag, int64_t otherwise) const;

 private:
  int64_t number(const std::string& bytes, size_t at, int size) const;

  Reader reader_;
  std::string entries_;  // 12 bytes each
  bool valid_ = false, big_endian_ = false;
};

}  // namespace liveavatar
