#include "core/system_calls.h"

#include <unistd.h>

namespace liveavatar {
namespace {

// put(done): writes some of what is behind `done` bytes.
template <typename Put>
int write_parts(size_t count, size_t& done, const Put& put) {
  while (done < count) {
    const ssize_t some = retry_interrupted([&] { return put(done); });
    if (some <= 0) return some < 0 ? errno : EIO;
    done += static_cast<size_t>(some);
  }
  return 0;
}

}  // namespace

int write_more(int descriptor, const void* bytes, size_t count, size_t& done) {
  const auto* from = static_cast<const char*>(bytes);
  return write_parts(count, done, [&](size_t at) { return ::write(descriptor, from + at, count - at); });
}

int write_all(int descriptor, const void* bytes, size_t count) {
  size_t done = 0;
  return write_more(descriptor, bytes, count, done);
}

int write_all_at(int descriptor, const void* bytes, size_t count, uint64_t offset) {
  const auto* from = static_cast<const char*>(bytes);
  size_t done = 0;
  return write_parts(count, done, [&](size_t at) {
    return ::pwrite(descriptor, from + at, count - at, static_cast<off_t>(offset + at));
  });
}

ssize_t read_all_at(int descriptor, void* to, size_t count, uint64_t offset) {
  size_t have = 0;
  while (have < count) {
    const ssize_t some = retry_interrupted([&] {
      return ::pread(descriptor, static_cast<char*>(to) + have, count - have, static_cast<off_t>(offset + have));
    });
    if (some < 0) return -1;
    if (some == 0) break;
    have += static_cast<size_t>(some);
  }
  return static_cast<ssize_t>(have);
}

std::string read_text_at(int descriptor, uint64_t offset, size_t count) {
  std::string bytes(count, '\0');
  const ssize_t got = read_all_at(descriptor, bytes.data(), count, offset);
  bytes.resize(got < 0 ? 0 : static_cast<size_t>(got));
  return bytes;
}

int sync_file(int descriptor) {
  return retry_interrupted([&] { return ::fsync(descriptor); });
}

}  // namespace liveavatar
