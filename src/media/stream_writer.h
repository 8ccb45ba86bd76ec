// A video writer over a packet sink.
#pragma once

#include <memory>
#include <stop_token>

#include "media/packet_sink.h"
#include "media/stream_output.h"
#include "media/video_writer.h"

namespace liveavatar {

struct StreamOutput::Parts {
  std::unique_ptr<PacketSink> sink;
  bool paced = false;  // frames go out at their time, and not before
  std::stop_token stop;
};

Expected<std::unique_ptr<VideoWriter>> open_stream_writer(StreamOutput::Parts parts, const VideoWriterOptions& options,
                                                          std::unique_ptr<AudioStream> audio);

}  // namespace liveavatar
