// What goes to a WHIP server: its token, and the video of `generate`.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <stop_token>
#include <string>

#include "core/output_files.h"
#include "core/status.h"

namespace liveavatar {
class ThreadedFile;
struct GenerateRequest;
struct JobInfo;
}  // namespace liveavatar
namespace liveavatar::serve {
class WhipServer;
}

namespace liveavatar::cli {

void add_whip_token(CLI::App& app, std::string& file, const std::string& group = {});
// Of the file, else of the environment; empty: there is none. used: something goes to such a server.
Expected<std::string> read_whip_token(const std::string& file, bool used);

bool is_whip(const std::string& output);
// kUnsupported: the program lacks what it takes, and how to get it.
Expected<std::shared_ptr<serve::WhipServer>> make_whip_server(const NamedPath& video, const std::string& token);
Expected<std::shared_ptr<serve::WhipServer>> try_whip_server(const NamedPath& video, const std::string& token,
                                                             bool quiet, const std::stop_token& stop);
Expected<std::unique_ptr<ThreadedFile>> create_whip_video(const std::shared_ptr<serve::WhipServer>& server,
                                                          const JobInfo& info, const GenerateRequest& request,
                                                          const std::stop_token& stop);

}  // namespace liveavatar::cli
