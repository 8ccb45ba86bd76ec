// What the peer sends.
#pragma once

#include <functional>
#include <span>

#include "serve/rtc/gst/handles.h"

namespace liveavatar::rtc {

using SamplesSink = std::function<void(std::span<const int16_t> samples)>;

// For webrtcbin's signal "pad-added": sound goes to the sink, on a thread of the pipeline, and pictures nowhere.
void take_pad(GstElement* peer, GstPad* pad, const SamplesSink& sink);

}  // namespace liveavatar::rtc
