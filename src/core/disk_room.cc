#include "core/disk_room.h"

#include <cerrno>
#include <chrono>

#include "core/clock.h"
#include "core/system_calls.h"

namespace liveavatar {

bool DiskRoom::is_full(int error) { return error == ENOSPC || error == EDQUOT; }

int DiskRoom::retry(const std::string& path, uint64_t bytes, const std::function<int()>& call) {
  int error = call();
  if (!is_full(error) || in_vain_) return error;
  if (stop_.stop_requested()) {
    was_stopped_ = true;
    return error;
  }
  const auto begin = std::chrono::steady_clock::now();
  const double most_s = calls_.full({path, bytes, error});
  // Once more after the time is up: the program may have been stopped meanwhile (Ctrl-Z).
  for (bool waits = most_s > 0; waits && is_full(error);) {
    waits = seconds_since(begin) < most_s;
    if (!pause()) break;
    error = call();
  }
  in_vain_ = is_full(error);
  calls_.no_more(error == 0);
  return error;
}

bool DiskRoom::pause() {
  constexpr auto kPause = std::chrono::milliseconds(250);
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, stop_, kPause, [] { return false; });
  if (stop_.stop_requested()) was_stopped_ = true;
  return !was_stopped_;
}

int RoomyFile::retry(uint64_t bytes, const std::function<int()>& call) const {
  return room == nullptr ? call() : room->retry(path, bytes, call);
}

int RoomyFile::write_all(int descriptor, const void* bytes, size_t count) const {
  if (room == nullptr) return liveavatar::write_all(descriptor, bytes, count);
  size_t done = 0;
  const int error = room->retry(path, count, [&] { return write_more(descriptor, bytes, count, done); });
  room->count(done);
  return error;
}

int RoomyFile::write_all_at(int descriptor, const void* bytes, size_t count, uint64_t offset) const {
  return retry(count, [&] { return liveavatar::write_all_at(descriptor, bytes, count, offset); });
}

}  // namespace liveavatar
