// What was said: OpenAI's POST /v1/audio/transcriptions.
#pragma once

#include <span>
#include <stop_token>
#include <string>

#include "http_client/client.h"

namespace liveavatar {

struct TranscriptionApi {
  http_client::Endpoint endpoint;
  std::string model = "whisper-1", language;  // language: "en"; empty: the model finds out
};

constexpr size_t kMostHeardBytes = 4 << 10;

// The text of s16 mono sound, without white space around it; empty: nothing was understood. Waits, or kCancelled soon
// after a stop. kCorrupt: the answer has no text.
Expected<std::string> transcribe(const TranscriptionApi& api, std::span<const int16_t> sound, int rate_hz,
                                 const std::stop_token& stop);

}  // namespace liveavatar
