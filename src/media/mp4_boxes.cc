#include "media/mp4_boxes.h"

namespace liveavatar {

uint64_t big_endian(const std::string& bytes, size_t at, int size) {
  uint64_t value = 0;
  if (at + static_cast<size_t>(size) > bytes.size()) return 0;
  for (int i = 0; i < size; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + static_cast<size_t>(i)]);
  return value;
}

std::string big_endian(uint64_t value, int size) {
  std::string bytes;
  for (int shift = (size - 1) * 8; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(value >> shift));
  return bytes;
}

bool read_box(const std::function<std::string(int64_t, int64_t)>& reader, int64_t offset, int64_t end, Mp4Box& box) {
  std::string head = reader(offset, 16);
  if (head.size() < 8) return false;
  box = {head.substr(4, 4), offset, static_cast<int64_t>(big_endian(head, 0, 4)), 8};
  if (box.size == 1) {
    box.size = static_cast<int64_t>(big_endian(head, 8, 8));
    box.header = 16;
  }
  return box.size >= box.header && box.size <= end - offset;
}

std::vector<Mp4Box> boxes_in(const std::string& bytes, size_t from) {
  auto reader = [&bytes](int64_t offset, int64_t count) {
    return bytes.substr(static_cast<size_t>(offset), static_cast<size_t>(count));
  };
  std::vector<Mp4Box> boxes;
  Mp4Box box;
  auto end = static_cast<int64_t>(bytes.size());
  for (auto at = static_cast<int64_t>(from); at < end && read_box(reader, at, end, box); at += box.size)
    boxes.push_back(box);
  return boxes;
}

std::string child_of(const std::string& box, const std::string& name) {
  for (const Mp4Box& child : boxes_in(box, 8)) {
    if (child.name == name) return box.substr(static_cast<size_t>(child.offset), static_cast<size_t>(child.size));
  }
  return {};
}

std::vector<Mp4Defaults> defaults_of(const std::string& moov) {
  std::vector<Mp4Defaults> all;
  std::string mvex = child_of(moov, "mvex");
  for (const Mp4Box& box : boxes_in(mvex, 8)) {
    if (box.name != "trex") continue;
    auto word = [&](size_t i) {
      return static_cast<uint32_t>(big_endian(mvex, static_cast<size_t>(box.offset) + 12 + 4 * i, 4));
    };
    all.push_back({word(0), word(2), word(3), word(4)});
  }
  return all;
}

namespace {

// Fields of a box one after the other.
class Fields {
 public:
  Fields(const std::string& bytes, size_t at) : bytes_(bytes), at_(at) {}
  uint64_t next(int size) {
    uint64_t value = big_endian(bytes_, at_, size);
    at_ += static_cast<size_t>(size);
    return value;
  }
  uint32_t word_if(bool there, uint32_t otherwise) { return there ? static_cast<uint32_t>(next(4)) : otherwise; }

 private:
  const std::string& bytes_;
  size_t at_;
};

bool is_key(uint32_t flags) { return (flags & 0x10000) == 0; }

Mp4Run read_run(const std::string& trun, int64_t base, const Mp4Defaults& d) {
  uint32_t has = static_cast<uint32_t>(big_endian(trun, 9, 3));
  Fields fields(trun, 12);
  Mp4Run run;
  run.track = d.track;
  auto count = static_cast<uint32_t>(fields.next(4));
  run.offset = base + static_cast<int32_t>(fields.word_if(has & 1, 0));
  uint32_t first_flags = fields.word_if(has & 4, 0);
  for (uint32_t i = 0; i < count; ++i) {
    Mp4Sample sample;
    sample.duration = fields.word_if(has & 0x100, d.duration);
    sample.size = fields.word_if(has & 0x200, d.size);
    uint32_t flags = fields.word_if(has & 0x400, d.flags);
    fields.word_if(has & 0x800, 0);  // the writer reorders no frames
    sample.key = is_key(i == 0 && (has & 4) ? first_flags : flags);
    run.samples.push_back(sample);
  }
  return run;
}

}  // namespace

std::vector<Mp4Run> runs_of(const std::string& moof, int64_t offset, const std::vector<Mp4Defaults>& defaults) {
  std::vector<Mp4Run> runs;
  for (const Mp4Box& box : boxes_in(moof, 8)) {
    if (box.name != "traf") continue;
    std::string traf = moof.substr(static_cast<size_t>(box.offset), static_cast<size_t>(box.size));
    std::string tfhd = child_of(traf, "tfhd");
    uint32_t has = static_cast<uint32_t>(big_endian(tfhd, 9, 3));
    Fields fields(tfhd, 12);
    Mp4Defaults d;
    d.track = static_cast<uint32_t>(fields.next(4));
    for (const Mp4Defaults& known : defaults) {
      if (known.track == d.track) d = known;
    }
    int64_t base = has & 1 ? static_cast<int64_t>(fields.next(8)) : offset;
    fields.word_if(has & 2, 0);
    d.duration = fields.word_if(has & 8, d.duration);
    d.size = fields.word_if(has & 0x10, d.size);
    d.flags = fields.word_if(has & 0x20, d.flags);
    for (const Mp4Box& child : boxes_in(traf, 8)) {
      if (child.name == "trun")
        runs.push_back(
            read_run(traf.substr(static_cast<size_t>(child.offset), static_cast<size_t>(child.size)), base, d));
    }
  }
  return runs;
}

}  // namespace liveavatar
