#include "backend/cuda/emulate/stream.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "backend/cuda/emulate/processor.h"

namespace liveavatar::cuda::emulate {

uint32_t stream_seed = 0;

std::recursive_mutex& device_lock() {
  static std::recursive_mutex mutex;
  return mutex;
}

namespace {

std::vector<Stream*>& all_streams() {
  static std::vector<Stream*> streams;
  return streams;
}

uint32_t next_random() {
  static uint32_t seeded_with = 0, state = 0;
  if (seeded_with != stream_seed) state = seeded_with = stream_seed;
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

}  // namespace

using Lock = std::lock_guard<std::recursive_mutex>;

Stream::Stream() {
  const Lock lock(device_lock());
  all_streams().push_back(this);
}
Stream::~Stream() {
  const Lock lock(device_lock());
  std::erase(all_streams(), this);
}

void Stream::add(std::function<void()> work, double milliseconds) {
  const Lock lock(device_lock());
  work_.push_back({std::move(work), {}, milliseconds});
}

void Stream::wait_for(const Point& point) {
  const Lock lock(device_lock());
  work_.push_back({nullptr, point, 0});
}

Point Stream::now() {
  const Lock lock(device_lock());
  return {this, done_ + work_.size()};
}

void Stream::run_next() {
  const Work work = std::move(work_.front());
  work_.pop_front();
  ++done_;
  if (work.behind.stream != nullptr) run_until(work.behind);
  if (work.run) work.run();
  clock_ms_ += work.milliseconds;
}

// A few pieces of work of any stream, which nobody asked for.
void Stream::run_others(Stream& waited_for) {
  for (uint32_t tries = next_random() % 4; tries > 0; --tries) {
    Stream& other = *all_streams()[next_random() % all_streams().size()];
    if (&other != &waited_for && !other.work_.empty()) other.run_next();
  }
}

bool is_done(const Point& point) {
  const Lock lock(device_lock());
  return point.stream == nullptr || point.stream->done_ >= point.count;
}

void run_until(const Point& point) {
  const Lock lock(device_lock());
  while (!is_done(point)) {
    if (stream_seed != 0) Stream::run_others(*point.stream);
    if (!is_done(point)) point.stream->run_next();
  }
}

void run_all() {
  const Lock lock(device_lock());
  for (Stream* stream : all_streams()) run_until(stream->now());
}

namespace {

double launch_milliseconds(std::string_view kernel) { return kernel == "linear" || kernel == "conv" ? 10 : 1; }

}  // namespace

void launch_body(Stream* stream, const Job& job, Body body, const void* parameters, size_t bytes) {
  if (stream == nullptr) return run_launch(job, body, parameters, bytes);
  const auto* from = static_cast<const std::byte*>(parameters);
  auto work = [job, body, copy = std::vector<std::byte>(from, from + bytes)] {
    run_launch(job, body, copy.data(), copy.size());
  };
  stream->add(std::move(work), launch_milliseconds(job.name));
}

}  // namespace liveavatar::cuda::emulate
