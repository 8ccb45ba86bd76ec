// espeak-ng as a voice. The code that needs it is a plugin (src/voice/espeak) that is loaded here: a program without
// espeak-ng runs, and says what to install when a text is to be spoken.
#pragma once

#include <memory>
#include <string>

#include "voice/voice.h"

namespace liveavatar {

// voice: its default, one of `espeak-ng --voices`, as "en-gb" or "de+f3". kUnsupported: one line that says what to
// install. kInvalidArgument: there is no such voice. Once a process; a second call gives the same engine.
Expected<std::shared_ptr<Synthesizer>> open_espeak(const std::string& voice);

// What the plugin exports as kEspeakFactory.
using EspeakFactory = void(Expected<std::shared_ptr<Synthesizer>>* made);
constexpr const char* kEspeakFactory = "liveavatar_open_espeak";
// And as kEspeakVersion: a program and a plugin of two versions do not fit.
constexpr const char* kEspeakVersion = "liveavatar_espeak_version";

}  // namespace liveavatar
