// A voice at another server: OpenAI's POST /v1/audio/speech, as many servers have it.
#pragma once

#include <memory>
#include <string>

#include "http_client/client.h"
#include "voice/voice.h"

namespace liveavatar {

struct SpeechApi {
  http_client::Endpoint endpoint;
  std::string model = "tts-1", voice = "alloy";  // voice: where a text names none
  std::string format = "wav";                    // or "pcm": s16 mono without a head, at pcm_rate_hz
  int pcm_rate_hz = 24000;
};
// kInvalidArgument: what is wrong with it. kUnsupported: built without libcurl.
Expected<std::shared_ptr<Synthesizer>> open_speech_api(const SpeechApi& api);

}  // namespace liveavatar
