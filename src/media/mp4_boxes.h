// Boxes of an MP4 file, as far as fragments need them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace liveavatar {

uint64_t big_endian(const std::string& bytes, size_t at, int size);  // 0 beyond the end
std::string big_endian(uint64_t value, int size);

struct Mp4Box {
  std::string name;
  int64_t offset = 0, size = 0;  // in the file, or in the parent's bytes; header included
  int64_t header = 8;
};
// False: no complete box begins there.
bool read_box(const std::function<std::string(int64_t offset, int64_t count)>& reader, int64_t offset, int64_t end,
              Mp4Box& box);
// Consecutive boxes in `bytes` from `from` on.
std::vector<Mp4Box> boxes_in(const std::string& bytes, size_t from);
// The whole of the named child of a box that has only children; empty: there is none.
std::string child_of(const std::string& box, const std::string& name);

struct Mp4Sample {
  uint32_t duration = 0, size = 0;
  bool key = true;
};
// A track's samples of one fragment; they are consecutive.
struct Mp4Run {
  uint32_t track = 0;
  int64_t offset = 0;  // of the first, in the file
  std::vector<Mp4Sample> samples;
};

struct Mp4Defaults {
  uint32_t track = 0, duration = 0, size = 0, flags = 0;
};
std::vector<Mp4Defaults> defaults_of(const std::string& moov);  // from its mvex

// The runs of a `moof` at `offset` in the file.
std::vector<Mp4Run> runs_of(const std::string& moof, int64_t offset, const std::vector<Mp4Defaults>& defaults);

}  // namespace liveavatar
