// What speaks, answers and listens for the server: a voice, a chat and a transcription, all optional.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/status.h"
#include "mind/chat.h"
#include "mind/transcription.h"
#include "voice/speech_api.h"
#include "voice/voice.h"

namespace liveavatar::serve {

struct MindOptions {
  bool no_speech = false;
  SpeechApi speech;                // without a URL: espeak-ng, where it is
  std::string espeak_voice;        // its default; given: espeak-ng must be there
  ChatApi chat;                    // without a URL: none
  TranscriptionApi transcription;  // without a URL: none
};

// Any thread.
struct Minds {
  std::shared_ptr<Synthesizer> voice;  // null: none
  std::string no_voice;                // then why
  std::optional<ChatApi> chat;
  std::optional<TranscriptionApi> transcription;

  bool can_converse() const { return voice && chat && transcription; }
  // One line: what is missing for a conversation.
  std::string no_conversation() const;
};

// kInvalidArgument, kUnsupported: what was asked for and cannot be.
Expected<Minds> open_minds(const MindOptions& options);

}  // namespace liveavatar::serve
