// Waiting for room where a disk or a quota is full.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>

namespace liveavatar {

// Makes a call that finds no room again, until there is some, the time is up or a stop is requested. After a wait in
// vain nothing is waited for any more, so that the job ends. Any thread.
class DiskRoom {
 public:
  struct Full {
    const std::string& path;
    uint64_t bytes;  // of the call; 0: unknown
    int error;       // ENOSPC or EDQUOT
  };
  struct Calls {
    std::function<double(const Full&)> full;     // it waits from now on; returns for how many seconds at most
    std::function<void(bool has_room)> no_more;  // it waits no more
  };
  DiskRoom(Calls calls, std::stop_token stop) : calls_(std::move(calls)), stop_(std::move(stop)) {}

  static bool is_full(int error);  // no room, of the disk or of a quota
  // call: 0, or errno; each goes on where the one before ended. Returns what the last one does.
  int retry(const std::string& path, uint64_t bytes, const std::function<int()>& call);
  void count(uint64_t bytes) { written_ += bytes; }
  uint64_t written_bytes() const { return written_; }  // that were counted
  bool was_stopped() const { return was_stopped_; }    // while it waited

 private:
  bool pause();  // false: stop
  Calls calls_;
  std::stop_token stop_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::atomic<uint64_t> written_ = 0;
  std::atomic<bool> in_vain_ = false, was_stopped_ = false;
};

// The writes of one file. Without a DiskRoom they fail at once where a disk is full. Results: 0, or errno.
struct RoomyFile {
  std::string path;
  DiskRoom* room = nullptr;

  int retry(uint64_t bytes, const std::function<int()>& call) const;
  // As those of core/system_calls.h.
  int write_all(int descriptor, const void* bytes, size_t count) const;
  int write_all_at(int descriptor, const void* bytes, size_t count, uint64_t offset) const;
};

}  // namespace liveavatar
