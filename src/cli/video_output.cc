#include "cli/video_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "cli/standard_streams.h"
#include "cli/whip_flags.h"
#include "core/errno_text.h"
#include "core/text.h"
#include "media/stream_address.h"
#include "media/stream_output.h"

namespace liveavatar::cli {
namespace {

Status named(const NamedPath& video, const Status& status) {
  if (status.ok() || status.code() == ErrorCode::kCancelled) return status;
  return {status.code(), video.flag + " " + status.message()};
}

Expected<std::unique_ptr<StreamOutput>> take_standard_output(const NamedPath& video, const std::stop_token& stop) {
  if (!has_standard_output())
    return io_error(video.flag + " -: standard output is closed; pipe it to a program, or name a file");
  if (::isatty(STDOUT_FILENO) == 1)
    return invalid_argument(video.flag + " -: standard output is a terminal; pipe it to a program, or name a file");
  constexpr int kFirstFree = 3;
  const int own = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, kFirstFree);
  if (own < 0 || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
    return io_error(video.flag + " -: standard output cannot be taken " + errno_text(errno, "name a file"));
  return StreamOutput::to_descriptor(own, stop);
}

}  // namespace

std::string output_name(const std::string& output) {
  return output == "-" ? "standard output" : one_line(without_secrets(output));
}

Status check_stream(const NamedPath& video) {
  if (!is_stream(video.path)) return {};
  if (is_whip(video.path)) return make_whip_server(video, {}).status();
  return named(video, parse_stream_address(video.path).status());
}

Expected<std::unique_ptr<StreamOutput>> open_stream(const NamedPath& video, bool quiet, const std::stop_token& stop) {
  if (!is_stream(video.path)) return std::unique_ptr<StreamOutput>();
  LA_ASSIGN_OR_RETURN(const StreamAddress address, parse_stream_address(video.path));
  if (address.kind == StreamAddress::Kind::kStandardOutput) return take_standard_output(video, stop);
  auto output = StreamOutput::connect(address, {}, stop);
  if (!output.ok()) return named(video, output.status());
  if (!quiet) std::fprintf(stderr, "connected to %s\n", address.shown.c_str());
  return output;
}

}  // namespace liveavatar::cli
