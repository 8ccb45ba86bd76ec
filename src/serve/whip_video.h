// A job's video to a WHIP server, at real time.
#pragma once

#include <memory>
#include <stop_token>

#include "core/status.h"
#include "serve/whip.h"

namespace liveavatar {
class AudioStream;
class VideoWriter;
}  // namespace liveavatar

namespace liveavatar::serve {

// Tries the server with a call of a moment, so that a wrong address or token is known before a model is loaded: a call
// that lasts would need the size of the video.
Status try_whip(WhipServer& server, const std::stop_token& stop);

// Calls. Frames go at their time, 25 a second, or as they are made where that is slower. A call that is lost is made
// again: at once, then after 1, 2 and 4 s. audio: null: silence.
Expected<std::unique_ptr<VideoWriter>> open_whip_video(std::shared_ptr<WhipServer> server, int64_t width,
                                                       int64_t height, std::unique_ptr<AudioStream> audio,
                                                       const std::stop_token& stop);

}  // namespace liveavatar::serve
