// Where a video goes that is no file: a server on the network, or standard output.
#pragma once

#include <string>

#include "core/status.h"

namespace liveavatar {

struct StreamAddress {
  enum class Kind { kRtmp, kSrt, kWhip, kStandardOutput };
  Kind kind = Kind::kStandardOutput;
  std::string url;    // may hold a stream key or a password: never printed; of WHIP http:// or https://
  std::string shown;  // for people: without key, user, password and query
};

// Whether an output is "-" or an address ("name://...") and no file.
bool is_stream(const std::string& output);

// rtmp, rtmps, srt, whip+https, whip+http or "-". kInvalidArgument, in a line without secrets: another protocol, no
// server, no stream named.
Expected<StreamAddress> parse_stream_address(const std::string& output);

// A text up to the first address in it, and that without secrets, whether it can be parsed or not; what comes behind is
// left out, as it may be of the address. A text without one as it is.
std::string without_secrets(const std::string& text);

}  // namespace liveavatar
