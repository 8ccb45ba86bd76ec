// What the backend needs of the CUDA runtime, call by call: memory, streams and events of one device. There are two: a
// card's (card/) and the emulated device's (emulated/), so that everything above them runs and is tested without a
// card. Functions return the CUDA runtime's errors, 0 if there is none. Thread-safe.
#pragma once

#include <cstddef>
#include <string>

#include "backend/cuda/kernels.h"
#include "backend/cuda/library.h"

namespace liveavatar::cuda {

struct Card {
  std::string name;            // "NVIDIA GeForce RTX 4090"
  int compute_capability = 0;  // 89: sm_89
  int multiprocessors = 0;
  size_t memory_bytes = 0;
  std::string driver;     // "13.0": the CUDA version that it is for
  std::string slot = {};  // "0000:65:00.0": of the machine's bus
};

// "NVIDIA GeForce RTX 4090, sm_89, 128 multiprocessors, 24081 MiB"
std::string describe(const Card& card);

class Runtime {
 public:
  static constexpr int kOutOfMemory = 2;  // the CUDA runtime's number

  virtual ~Runtime() = default;
  virtual const Card& card() const = 0;
  virtual const Kernels& kernels() const = 0;
  virtual std::string error_text(int error) const = 0;

  // Aligned to 256 bytes, not initialised.
  virtual int allocate(void** memory, size_t bytes) = 0;
  virtual int release(void* memory) = 0;  // waits for all work
  virtual size_t free_bytes() const = 0;
  // Host memory that the device copies from and to while the host goes on.
  virtual int allocate_pinned(void** memory, size_t bytes) = 0;
  virtual int release_pinned(void* memory) = 0;

  // Done on return. They wait for no stream's work.
  virtual int write(void* to, const void* host, size_t bytes) = 0;
  virtual int read(const void* from, void* host, size_t bytes) = 0;

  // A stream's work is done in order; streams wait for each other by events alone.
  virtual int create_stream(void** stream) = 0;
  virtual int destroy_stream(void* stream) = 0;
  virtual int synchronize(void* stream) = 0;
  // Pinned memory stays in use until the copy is done.
  virtual int enqueue_write(void* to, const void* pinned, size_t bytes, void* stream) = 0;
  virtual int enqueue_read(const void* from, void* pinned, size_t bytes, void* stream) = 0;

  virtual int create_event(void** event) = 0;
  virtual int destroy_event(void* event) = 0;
  virtual int record(void* event, void* stream) = 0;
  virtual bool is_done(void* event) const = 0;
  virtual int wait(void* event) = 0;  // blocks the calling thread
  // An event that keeps the device's time, destroyed as any other.
  virtual int create_timer(void** event) = 0;
  // Between two recorded timers that are done.
  virtual int elapsed(void* start, void* end, float* milliseconds) const = 0;

  // Opened anew by each call; they die before the runtime. An error says why there is none.
  virtual Expected<std::unique_ptr<LinearLibrary>> open_linear_library() = 0;
  virtual Expected<std::unique_ptr<ConvLibrary>> open_conv_library() = 0;
  virtual Expected<std::unique_ptr<LinkLibrary>> open_link_library() = 0;
  // For such a library: this device becomes that of the calling thread.
  virtual int make_current() = 0;
};

}  // namespace liveavatar::cuda
