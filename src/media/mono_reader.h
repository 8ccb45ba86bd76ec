// One channel at one rate, of any stream of audio.
#pragma once

#include <memory>

#include "core/mono_source.h"
#include "core/status.h"
#include "media/audio.h"

namespace liveavatar {

// Channels averaged (if they cancel each other, the louder one; note() says so), then resampled (soxr, high quality) to
// rate_hz: ceil(samples * rate_hz / own rate) samples. audio: at its start.
Expected<std::unique_ptr<MonoSource>> mono_of(std::unique_ptr<AudioStream> audio, int rate_hz);

}  // namespace liveavatar
