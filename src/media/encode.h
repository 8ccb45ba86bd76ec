// What encoders have in common.
#pragma once

#include <functional>

#include "media/ffmpeg.h"

namespace liveavatar {

// Moves from the packet, or leaves it.
using PacketTaker = std::function<Status(AVPacket&)>;

// Gives the packets that the encoder has ready. An error of the encoder, which is not that it has none, or the taker's.
Status take_packets(AVCodecContext& encoder, AVPacket& packet, const PacketTaker& take);

// An empty frame of sound for the encoder; time: of its first sample.
Status prepare_sound(AVFrame& frame, const AVCodecContext& encoder, int64_t samples, int64_t time);

// A stream of the file for what this encoder makes.
Expected<AVStream*> add_stream(AVFormatContext& format, const AVCodecContext& encoder);

}  // namespace liveavatar
