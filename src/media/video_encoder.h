// The encoders of a video file, and which of them is taken.
#pragma once

#include <functional>
#include <string>

#include "media/ffmpeg.h"
#include "media/video_writer.h"

namespace liveavatar {

// Opens the encoder that FFmpeg knows by this name, or says why not.
using TryEncoder = std::function<Status(const std::string& name)>;

// Tries the encoders that `asked` allows in their order, until one opens, and returns its name. kNvenc: kUnsupported
// where none does, in one line. kAuto ends with the CPU's, whatever a card says.
Expected<std::string> choose_encoder(VideoEncoder asked, const TryEncoder& open);

// The encoder of these options, opened.
Expected<Owned<AVCodecContext>> open_video_encoder(const VideoWriterOptions& options);

}  // namespace liveavatar
