// A video's way out that is no file: an open connection, or a descriptor that a player reads.
#pragma once

#include <memory>
#include <stop_token>

#include "core/status.h"
#include "media/stream_address.h"

namespace liveavatar {

class PacketSink;

// Of a connection.
struct StreamWaits {
  double connect_s = 10;  // until the server is ready to take a stream
  double write_s = 10;    // for which it takes nothing
};
struct StreamPatience {
  StreamWaits waits;
  int reopens = 4;  // of a connection that was lost: at once, then after 1, 2 and 4 s
};

// Opened before there is anything to send; a VideoWriter takes it.
class StreamOutput {
 public:
  // kIo: the server cannot be reached. After a stop: kCancelled, and what waits ends within a second.
  static Expected<std::unique_ptr<StreamOutput>> connect(const StreamAddress& address, const StreamPatience& patience,
                                                         const std::stop_token& stop);
  // Fragmented MP4 to a pipe or a file, which is closed at the end. It waits for a reader as long as that takes.
  static Expected<std::unique_ptr<StreamOutput>> to_descriptor(int descriptor, const std::stop_token& stop);
  ~StreamOutput();

  struct Parts;
  Parts take();  // once

 private:
  StreamOutput() = default;
  std::unique_ptr<Parts> parts_;
};

}  // namespace liveavatar
