// Flags of voices, chat and transcription.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "core/status.h"
#include "serve/minds.h"

namespace liveavatar::cli {

// Of an endpoint at another server: URL, model and key.
struct EndpointFlags {
  std::string url, model, key_file;
};
// The file's first line. Error: there is none.
Expected<std::string> key_of_file(const std::string& flag, const std::string& path);

// Checks the flags and puts URL and key into the endpoint. name: "speech"; without a key file the key is that of the
// environment, LIVEAVATAR_SPEECH_KEY. tail: what follows an API's base, "/audio/speech".
Status resolve_endpoint(const EndpointFlags& flags, const std::string& name, const std::string& tail,
                        http_client::Endpoint& endpoint);
// --NAME_url, --NAME_model, --NAME_key_file, with a group for --help.
void add_endpoint(CLI::App& app, EndpointFlags& flags, const std::string& name, const std::string& what,
                  const std::string& group);
void add_speech_format(CLI::App& app, SpeechApi& api, const std::string& group);

// Of `serve`.
struct MindFlags {
  EndpointFlags speech, chat, transcription;
  std::string voice;
  serve::MindOptions options;
  double reply_timeout_s = 30;
};
void add_mind_flags(CLI::App& app, MindFlags& flags);
Status resolve_minds(const MindFlags& flags, serve::MindOptions& options);

}  // namespace liveavatar::cli
