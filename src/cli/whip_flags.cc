#include "cli/whip_flags.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "cli/field_flags.h"
#include "cli/mind_flags.h"
#include "core/boundary.h"
#include "media/audio.h"
#include "media/stream_address.h"
#include "media/video_writer.h"
#include "pipeline/video_file.h"
#include "serve/whip_video.h"

namespace liveavatar::cli {
namespace {

constexpr const char *kFlag = "--whip_token_file", *kVariable = "LIVEAVATAR_WHIP_TOKEN";

Status named(const NamedPath& video, const Status& status) {
  if (status.ok() || status.code() == ErrorCode::kCancelled) return status;
  return {status.code(), video.flag + " " + in_flags(status.message())};
}

}  // namespace

void add_whip_token(CLI::App& app, std::string& file, const std::string& group) {
  CLI::Option* option = app.add_option(
      kFlag, file,
      "The token for a WHIP server is this file's first line (default: the variable\n" + std::string(kVariable) + ")");
  if (!group.empty()) option->group(group);
}

Expected<std::string> read_whip_token(const std::string& file, bool used) {
  if (!used && !file.empty())
    return invalid_argument(std::string(kFlag) + " is for whip+https://HOST/PATH; name such a server, or leave it out");
  if (!used) return std::string();
  const char* variable = std::getenv(kVariable);
  std::string token = variable != nullptr ? variable : "";
  if (!file.empty()) {
    LA_ASSIGN_OR_RETURN(token, key_of_file(kFlag, file));
  } else if (variable == nullptr) {
    return token;
  }
  // A line of a header.
  const bool is_good =
      !token.empty() && std::all_of(token.begin(), token.end(), [](unsigned char c) { return c > ' ' && c < 127; });
  if (is_good) return token;
  if (file.empty()) return invalid_argument(std::string(kVariable) + " is no token; put one into it, or unset it");
  return invalid_argument(std::string(kFlag) + " " + file + ": its first line is no token; write one into it");
}

bool is_whip(const std::string& output) {
  if (!is_stream(output)) return false;
  const auto address = parse_stream_address(output);
  return address.ok() && address->kind == StreamAddress::Kind::kWhip;
}

Expected<std::shared_ptr<serve::WhipServer>> make_whip_server(const NamedPath& video, const std::string& token) {
  LA_ASSIGN_OR_RETURN(const StreamAddress address, parse_stream_address(video.path));
  auto server = serve::WhipServer::create(address, {.token = token, .ice_servers = {}});
  return server.ok() ? std::move(server) : named(video, server.status());
}

Expected<std::shared_ptr<serve::WhipServer>> try_whip_server(const NamedPath& video, const std::string& token,
                                                             bool quiet, const std::stop_token& stop) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<serve::WhipServer> server, make_whip_server(video, token));
  LA_RETURN_IF_ERROR(named(video, serve::try_whip(*server, stop)));
  if (!quiet) std::fprintf(stderr, "connected to %s\n", server->shown().c_str());
  return server;
}

Expected<std::unique_ptr<ThreadedFile>> create_whip_video(const std::shared_ptr<serve::WhipServer>& server,
                                                          const JobInfo& info, const GenerateRequest& request,
                                                          const std::stop_token& stop) {
  return contained("the stream", [&]() -> Expected<std::unique_ptr<ThreadedFile>> {
    LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioStream> voice, open_voice(request.audio, request.original_speakers));
    LA_ASSIGN_OR_RETURN(std::unique_ptr<VideoWriter> writer,
                        serve::open_whip_video(server, info.width, info.height, std::move(voice), stop));
    return std::make_unique<ThreadedFile>(std::move(writer), info);
  });
}

}  // namespace liveavatar::cli
