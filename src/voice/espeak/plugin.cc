// What the program finds in this plugin.
#include "liveavatar/version.h"
#include "voice/espeak/espeak_engine.h"
#include "voice/espeak_voice.h"

extern "C" {
__attribute__((visibility("default"))) const char* liveavatar_espeak_version = LIVEAVATAR_VERSION_STRING;

__attribute__((visibility("default"))) void liveavatar_open_espeak(
    liveavatar::Expected<std::shared_ptr<liveavatar::Synthesizer>>* made) {
  *made = liveavatar::espeak::EspeakEngine::begin();
}
}
