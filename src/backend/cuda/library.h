// Libraries that compute ops instead of our kernels, where they are right and quicker (library_ops.h), and one that
// moves bytes between cards. Each kind has an interface here. A library is a file of libraries/ that implements one;
// tests have stand-ins.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>

#include "backend/cuda/kernels.h"
#include "core/status.h"

namespace liveavatar::cuda {

// out = activation(x w^T + bias) + residual. Row-major, contiguous and aligned to 16 bytes; sums in f32.
struct LibraryLinear {
  int64_t m, n, k;        // n and k are multiples of 8
  const void* x;          // bf16 [m, k]
  const void* w;          // bf16 [n, k]
  const void* bias;       // optional [n], of the type of out
  Activation activation;  // kNone or kGeluTanh
  const void* residual;   // optional [m, n], of the type of out; may be out
  Output out;             // [m, n], kF32 or kBF16
  void* workspace;        // kLibraryWorkspaceBytes, for one call at a time
};
// Named here and not by a library, so that a plan knows it without one.
inline constexpr size_t kLibraryWorkspaceBytes = size_t{32} << 20;

// Linear layers by a library. Used by one thread at a time.
class LinearLibrary {
 public:
  virtual ~LinearLibrary() = default;
  virtual std::string name() const = 0;  // with the version: "cuBLASLt 13.1.0"
  // Equal shapes give equal bits. An error says why the library cannot; then nothing was enqueued.
  virtual Status enqueue(const LibraryLinear& call, void* stream) = 0;
};

// A convolution without bias over all frames of x: its output has kernel[0] - 1 fewer. Rows and columns stay as many,
// with kernel / 2 zeros on either side. Contiguous and aligned to 16 bytes; sums in f32.
struct LibraryConv {
  int64_t frames, rows, columns, in_channels;  // of x; channels are multiples of 8
  int64_t out_channels;
  int64_t kernel[3];  // frames, rows, columns; rows and columns are odd
  bool adds;          // to what out holds
  const void* x;      // bf16 [frames, rows, columns, in_channels]
  const void* w;      // bf16 [out_channels, kernel frames, rows, columns, in_channels]
  void* out;          // bf16 [frames - kernel[0] + 1, rows, columns, out_channels]
  void* workspace;    // kConvWorkspaceBytes, for one call at a time
};
inline constexpr size_t kConvWorkspaceBytes = size_t{64} << 20;

// Convolutions by a library. Used by one thread at a time.
class ConvLibrary {
 public:
  virtual ~ConvLibrary() = default;
  virtual std::string name() const = 0;  // with the version: "cuDNN 9.19.0"
  // As LinearLibrary's.
  virtual Status enqueue(const LibraryConv& call, void* stream) = 0;
};

// What NCCL takes of the card, by its source (2.18 to 2.30; docs/cuda.md). With each other rank a channel has a
// receiving and a sending end: buffers of its three protocols, 512 KiB, 4.7 and 4 MiB, in pieces of 2 MiB: 12 MiB of
// both. Two channels a rank over PCIe, over NVLink two a link, of which we allow so many.
inline constexpr int kLinkChannels = 16;
inline constexpr size_t kLinkPeerBytes = kLinkChannels * (size_t{12} << 20);
// Of the communicator itself: queues, and the tables of channels and ranks.
inline constexpr size_t kLinkBytes = size_t{16} << 20;

// Bytes of device memory, to or from another rank.
struct LinkMessage {
  int rank;
  void* data;
  size_t bytes;
};
using LinkId = std::array<std::byte, 128>;  // of the ranks that join each other

// One rank's end of what links some ranks. join(), enqueue() and end() only begin: after each of them ready() is asked
// until it says so, before anything else is called and before other work follows on the stream. By one thread at a
// time. Its death ends what is under way, also where others never answer.
class Communicator {
 public:
  virtual ~Communicator() = default;
  // An error may be that of another rank, also of work that was begun long before.
  virtual Expected<bool> ready() = 0;
  // All as one piece of work. An error: nothing was enqueued.
  virtual Status enqueue(std::span<const LinkMessage> sends, std::span<const LinkMessage> receives, void* stream) = 0;
  // When no work is under way, on all ranks: after it no other rank needs this one.
  virtual Status end() = 0;
};

class LinkLibrary {
 public:
  virtual ~LinkLibrary() = default;
  virtual std::string name() const = 0;  // with the version: "NCCL 2.28.9"
  virtual Expected<LinkId> make_id() = 0;
  // With the calling thread's device. Outlived by the library.
  virtual Expected<std::unique_ptr<Communicator>> join(const LinkId& id, int rank, int ranks) = 0;
};

}  // namespace liveavatar::cuda
