#include "media/plain_mp4.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <tuple>

#include "core/errno_text.h"
#include "core/system_calls.h"
#include "media/mp4_boxes.h"

namespace liveavatar {
namespace {

uint64_t divide_up(uint64_t value, uint64_t from, uint64_t to) { return (value * to + from - 1) / from; }

std::string box(const std::string& name, const std::string& body, uint64_t more = 0) {
  return big_endian(8 + body.size() + more, 4) + name + body;
}

// A number of entries in a table, where equal neighbours share one.
class Grouped {
 public:
  // The entry that `value` begins; 0: it belongs to the one before.
  bool starts(uint64_t value) {
    bool starts = entries_ == 0 || value != last_;
    last_ = value;
    entries_ += starts ? 1 : 0;
    return starts;
  }
  uint64_t entries() const { return entries_; }

 private:
  uint64_t last_ = 0, entries_ = 0;
};

struct Track {
  uint32_t id = 0;
  std::string trak;  // of the fragmented file's head
  uint64_t samples = 0, keys = 0, chunks = 0, duration = 0;
  Grouped durations, chunk_sizes;
  bool all_keys() const { return keys == samples; }
  uint64_t table_bytes() const {
    return 16 + 8 * durations.entries() + 16 + 12 * chunk_sizes.entries() + 20 + 4 * samples + 16 + 8 * chunks +
           (all_keys() ? 0 : 16 + 4 * keys);
  }
};

// version 0 and 1 differ in the width of times; a duration that needs it makes 1 of 0 (mdhd; the others count in the
// movie's milliseconds, which last for weeks).
std::string with_duration(std::string whole, size_t at_v0, size_t at_v1, uint64_t duration) {
  bool wide = whole[8] == 1;
  if (!wide && duration > UINT32_MAX) {
    std::string rest = whole.substr(28);  // mdhd: behind version, two times, time scale, duration
    return box("mdhd", std::string("\1\0\0\0", 4) + big_endian(big_endian(whole, 12, 4), 8) +
                           big_endian(big_endian(whole, 16, 4), 8) + whole.substr(20, 4) + big_endian(duration, 8) +
                           rest);
  }
  return whole.replace(8 + (wide ? at_v1 : at_v0), wide ? 8 : 4, big_endian(duration, wide ? 8 : 4));
}

// The edits show the track from their start to its end. Returns its length in the movie's time scale.
uint64_t set_edits(std::string& elst, uint64_t track_scale, uint64_t movie_scale, uint64_t duration) {
  bool wide = elst[8] == 1;
  size_t width = wide ? 8 : 4, entry = 2 * width + 4;
  uint64_t shown = 0, empty_mark = wide ? UINT64_MAX : UINT32_MAX;
  for (uint64_t i = 0; i < big_endian(elst, 12, 4); ++i) {
    size_t at = 16 + i * entry;
    uint64_t start = big_endian(elst, at + width, int(width));
    if (start != empty_mark) {
      uint64_t length = divide_up(duration - std::min(duration, start), track_scale, movie_scale);
      elst.replace(at, width, big_endian(length, int(width)));
    }
    shown += big_endian(elst, at, int(width));
  }
  return shown;
}

class PlainMp4 {
 public:
  PlainMp4(int fd, const RoomyFile& file) : fd_(fd), file_(file) {}

  // What is behind the last frame without being in use is cut off again, also where memory ends.
  ~PlainMp4() {
    if (is_begun_) std::ignore = retry_interrupted([this] { return ftruncate(fd_, end_); });
  }

  Status run() {
    const bool has_head = find_head();
    LA_RETURN_IF_ERROR(check_reads());
    if (!has_head) return {};
    find_tracks();
    visit([this](const Mp4Run& run) { count(run); });
    is_begun_ = true;
    LA_RETURN_IF_ERROR(write_moov());
    LA_RETURN_IF_ERROR(check_reads());
    if (sync_file(fd_) != 0) return no_index(errno);  // a power cut must not leave the switch without the index
    // From here on the file has both indexes: a player uses the first. The next write switches to the new one.
    LA_RETURN_IF_ERROR(write_at(head_.offset, media_header()));
    is_begun_ = false;
    return {};
  }

 private:
  // Fewer bytes than there are: noted for check_reads(), since an index of what could be read would hide frames.
  std::string read(int64_t offset, int64_t count) const {
    std::string bytes(static_cast<size_t>(std::max<int64_t>(0, std::min(count, end_ - offset))), '\0');
    const ssize_t got = read_all_at(fd_, bytes.data(), bytes.size(), static_cast<uint64_t>(offset));
    if (got < 0) read_error_ = errno;
    if (got >= 0 && static_cast<size_t>(got) < bytes.size()) read_error_ = EIO;
    bytes.resize(static_cast<size_t>(std::max<ssize_t>(0, got)));
    return bytes;
  }
  Status check_reads() const { return read_error_ == 0 ? Status() : no_index(read_error_); }
  Status no_index(int error) const {
    return io_error(file_.path + ": the index behind the video could not be written " +
                    errno_text(error, "make room and run it again, or copy it (ffmpeg -i FILE -c copy NEW.mp4)") +
                    "; the video is whole and plays, but some players cannot seek in it");
  }

  template <typename Visit>
  void boxes(const Visit& visit) const {
    Mp4Box b;
    auto reader = [this](int64_t offset, int64_t count) { return read(offset, count); };
    for (int64_t at = 0; at < end_ && read_box(reader, at, end_, b); at += b.size) visit(b);
  }

  // The moov that the fragments follow, with mvex in it.
  bool find_head() {
    struct stat info {};
    if (fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) return false;
    end_ = info.st_size;
    boxes([this](const Mp4Box& b) {
      if (b.name == "moov" && head_.size == 0) head_ = b;
      fragments_ += b.name == "moof" ? 1 : 0;
    });
    if (head_.size == 0 || fragments_ == 0) return false;
    moov_ = read(head_.offset, head_.size);
    defaults_ = defaults_of(moov_);
    return !defaults_.empty();
  }

  void find_tracks() {
    for (const Mp4Box& b : boxes_in(moov_, 8)) {
      if (b.name != "trak") continue;
      Track track;
      track.trak = moov_.substr(static_cast<size_t>(b.offset), static_cast<size_t>(b.size));
      std::string tkhd = child_of(track.trak, "tkhd");
      track.id = static_cast<uint32_t>(big_endian(tkhd, tkhd[8] == 1 ? 28 : 20, 4));
      tracks_.push_back(std::move(track));
    }
  }

  template <typename Visit>
  void visit(const Visit& each) const {
    boxes([&](const Mp4Box& b) {
      if (b.name != "moof") return;
      for (const Mp4Run& run : runs_of(read(b.offset, b.size), b.offset, defaults_)) each(run);
    });
  }
  template <typename Visit>
  void visit(const Track& track, const Visit& each) const {
    visit([&](const Mp4Run& run) {
      if (run.track == track.id) each(run);
    });
  }

  void count(const Mp4Run& run) {
    for (Track& t : tracks_) {
      if (t.id != run.track) continue;
      ++t.chunks;
      t.chunk_sizes.starts(run.samples.size());
      for (const Mp4Sample& s : run.samples) {
        t.durations.starts(s.duration);
        t.duration += s.duration;
        t.keys += s.key ? 1 : 0;
        ++t.samples;
      }
    }
  }

  Status write_moov() {
    std::string mvhd = child_of(moov_, "mvhd");
    uint64_t scale = big_endian(mvhd, mvhd[8] == 1 ? 28 : 20, 4), longest = 0, bytes = 0;
    std::vector<std::string> heads;
    for (const Track& track : tracks_) {
      uint64_t shown = 0;
      heads.push_back(head_of(track, scale, shown));
      longest = std::max(longest, shown);
      bytes += heads.back().size() + track.table_bytes();
    }
    std::string others = with_duration(mvhd, 16, 24, longest);
    std::string udta = child_of(moov_, "udta");
    at_ = end_;
    put(box("moov", others + udta, bytes));
    for (size_t i = 0; i < tracks_.size(); ++i) {
      put(heads[i]);
      put_tables(tracks_[i]);
    }
    return flush();
  }

  // A trak up to its tables: stbl is made the last box of minf, minf of mdia, mdia of trak.
  std::string head_of(const Track& track, uint64_t movie_scale, uint64_t& shown) const {
    std::string mdia = child_of(track.trak, "mdia"), mdhd = child_of(mdia, "mdhd"), edts = child_of(track.trak, "edts");
    uint64_t scale = big_endian(mdhd, mdhd[8] == 1 ? 28 : 20, 4);
    shown = divide_up(track.duration, scale, movie_scale);
    std::string elst = edts.empty() ? "" : child_of(edts, "elst");
    if (!elst.empty()) {
      shown = set_edits(elst, scale, movie_scale, track.duration);
      edts = box("edts", elst);
    }
    std::string tkhd = with_duration(child_of(track.trak, "tkhd"), 20, 28, shown);
    std::string minf = child_of(mdia, "minf");
    std::string head = child_of(child_of(minf, "stbl"), "stsd");
    uint64_t tables = track.table_bytes();
    head = box("stbl", head, tables);
    head = box("minf", without(minf, {"stbl"}) + head, tables);
    head = box("mdia", with_duration(mdhd, 16, 24, track.duration) + without(mdia, {"mdhd", "minf"}) + head, tables);
    return box("trak", tkhd + edts + without(track.trak, {"tkhd", "edts", "mdia"}) + head, tables);
  }

  static std::string without(const std::string& parent, const std::vector<std::string>& names) {
    std::string rest;
    for (const Mp4Box& b : boxes_in(parent, 8)) {
      if (std::find(names.begin(), names.end(), b.name) == names.end())
        rest += parent.substr(static_cast<size_t>(b.offset), static_cast<size_t>(b.size));
    }
    return rest;
  }

  // Each from a walk over the fragments: no table is held in memory.
  void put_tables(const Track& track) {
    put_durations(track);
    put_chunk_sizes(track);
    put(big_endian(20 + 4 * track.samples, 4) + "stsz" + big_endian(0, 8) + big_endian(track.samples, 4));
    visit(track, [this](const Mp4Run& run) {
      for (const Mp4Sample& s : run.samples) put(big_endian(s.size, 4));
    });
    put(table("co64", 8, track.chunks));
    visit(track, [this](const Mp4Run& run) { put(big_endian(static_cast<uint64_t>(run.offset), 8)); });
    if (track.all_keys()) return;
    put(table("stss", 4, track.keys));
    uint64_t sample = 0;
    visit(track, [&](const Mp4Run& run) {
      for (const Mp4Sample& s : run.samples) {
        ++sample;
        if (s.key) put(big_endian(sample, 4));
      }
    });
  }

  void put_durations(const Track& track) {
    put(table("stts", 8, track.durations.entries()));
    uint64_t equal = 0, duration = 0;
    visit(track, [&](const Mp4Run& run) {
      for (const Mp4Sample& s : run.samples) {
        if (equal > 0 && s.duration != duration) {
          put(big_endian(equal, 4) + big_endian(duration, 4));
          equal = 0;
        }
        duration = s.duration;
        ++equal;
      }
    });
    if (equal > 0) put(big_endian(equal, 4) + big_endian(duration, 4));
  }

  void put_chunk_sizes(const Track& track) {
    put(table("stsc", 12, track.chunk_sizes.entries()));
    Grouped sizes;
    uint64_t chunk = 0;
    visit(track, [&](const Mp4Run& run) {
      ++chunk;
      if (sizes.starts(run.samples.size()))
        put(big_endian(chunk, 4) + big_endian(run.samples.size(), 4) + big_endian(1, 4));
    });
  }

  static std::string table(const std::string& name, uint64_t entry_bytes, uint64_t entries) {
    return big_endian(16 + entry_bytes * entries, 4) + name + big_endian(0, 4) + big_endian(entries, 4);
  }

  std::string media_header() const {
    auto size = static_cast<uint64_t>(end_ - head_.offset);
    return size <= UINT32_MAX ? big_endian(size, 4) + "mdat" : big_endian(1, 4) + "mdat" + big_endian(size, 8);
  }

  void put(const std::string& bytes) {
    pending_ += bytes;
    constexpr size_t kAtOnce = 1 << 16;
    if (pending_.size() >= kAtOnce && status_.ok()) status_ = flush();
  }

  Status flush() {
    LA_RETURN_IF_ERROR(status_);
    LA_RETURN_IF_ERROR(write_at(at_, pending_));
    at_ += static_cast<int64_t>(pending_.size());
    pending_.clear();
    return {};
  }

  Status write_at(int64_t offset, const std::string& bytes) const {
    const int error = file_.write_all_at(fd_, bytes.data(), bytes.size(), static_cast<uint64_t>(offset));
    return error == 0 ? Status() : no_index(error);
  }

  int fd_;
  const RoomyFile& file_;
  int64_t end_ = 0, fragments_ = 0;
  Mp4Box head_;
  std::string moov_;
  std::vector<Mp4Defaults> defaults_;
  std::vector<Track> tracks_;
  std::string pending_;
  int64_t at_ = 0;         // where pending_ goes
  bool is_begun_ = false;  // there is something behind the last frame that is not in use
  mutable int read_error_ = 0;
  Status status_;
};

}  // namespace

bool is_unfinished_mp4(int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return false;
  auto reader = [fd](int64_t offset, int64_t count) { return read_text_at(fd, uint64_t(offset), size_t(count)); };
  Mp4Box box;
  for (int64_t at = 0; read_box(reader, at, info.st_size, box); at += box.size) {
    if (box.name == "moov") return !defaults_of(reader(box.offset, box.size)).empty();
    if (box.name == "mdat") return false;
  }
  return false;
}

Status make_plain_mp4(int fd, const RoomyFile& file) { return PlainMp4(fd, file).run(); }

}  // namespace liveavatar
