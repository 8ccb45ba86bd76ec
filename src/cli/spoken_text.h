// A text in place of a voice: `generate --tts`.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/mind_flags.h"
#include "core/status.h"
#include "core/temporary_folder.h"

namespace liveavatar::cli {

struct SpokenTextFlags {
  std::string text, file, voice;
  EndpointFlags endpoint;
  SpeechApi api;
};
void add_spoken_text(CLI::App& app, SpokenTextFlags& flags);
inline bool is_given(const SpokenTextFlags& flags) { return !flags.text.empty() || !flags.file.empty(); }
// Flags that contradict each other, or have nothing to do.
Status check_spoken_text(const CLI::App& app, const SpokenTextFlags& flags);

// The text as a WAV file of its own, which is removed at the end.
class SpokenAudio {
 public:
  // Sets `audio` to the file, where there is a text. kCancelled: Ctrl-C.
  Status make(const SpokenTextFlags& flags, std::string& audio);

 private:
  std::unique_ptr<TemporaryFolder> folder_;
};

}  // namespace liveavatar::cli
