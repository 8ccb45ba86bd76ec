// Calls of the system that a signal may interrupt, and those that move a part of the bytes.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>

namespace liveavatar {

// A call that returns -1 with errno, made again as often as a signal interrupts it. Network file systems and FUSE
// interrupt also what a local disk does not, as open and fsync.
template <typename Call>
auto retry_interrupted(const Call& call) -> decltype(call()) {
  while (true) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

// Writes all bytes, at the file's own offset or from `offset` on. 0, or errno.
int write_all(int descriptor, const void* bytes, size_t count);
// The same from `done` on, which counts what was written.
int write_more(int descriptor, const void* bytes, size_t count, size_t& done);
int write_all_at(int descriptor, const void* bytes, size_t count, uint64_t offset);

// Reads up to `count` bytes: fewer only at the file's end. -1 with errno.
ssize_t read_all_at(int descriptor, void* to, size_t count, uint64_t offset);

// Up to `count` bytes from `offset`; fewer at the file's end, or where it cannot be read.
std::string read_text_at(int descriptor, uint64_t offset, size_t count);

// 0 once the bytes are on the disk; -1 with errno.
int sync_file(int descriptor);

}  // namespace liveavatar
