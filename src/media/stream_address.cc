#include "media/stream_address.h"

#include <algorithm>
#include <cctype>

#include "core/text.h"

namespace liveavatar {
namespace {

constexpr const char* kHidden = "***";

bool is_of_protocol(unsigned char c) { return std::isalnum(c) != 0 || c == '+' || c == '-' || c == '.'; }

// "rtmp" of "RTMP://host/app/key"; empty: no address.
std::string protocol_of(const std::string& text) {
  const size_t end = text.find("://");
  if (end == std::string::npos || end == 0) return {};
  const bool is_name = std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(end), is_of_protocol);
  return is_name ? lower_case(text.substr(0, end)) : std::string();
}

struct Parts {
  std::string protocol, server, path;  // server without user and password; path from its "/" on, without a query
  bool may_hide_a_password = false;    // one with a "/", "?" or the like: an "@" is behind the server
};

Parts split(const std::string& address) {
  Parts parts;
  parts.protocol = protocol_of(address);
  std::string rest = address.substr(parts.protocol.size() + 3);
  const size_t end = std::min(rest.find_first_of("/?# "), rest.size());
  parts.server = rest.substr(0, end);
  parts.may_hide_a_password = rest.find('@', end) != std::string::npos;
  if (const size_t user = parts.server.rfind('@'); user != std::string::npos) parts.server.erase(0, user + 1);
  rest.erase(0, end);
  if (rest.starts_with("/")) parts.path = rest.substr(0, std::min(rest.find_first_of("?# "), rest.size()));
  return parts;
}

// Of "/app/key" the application; all else may be secret.
std::string shown_path(const Parts& parts) {
  if (parts.path.size() < 2) return "";
  const size_t second = parts.path.find('/', 1);
  const bool names_app = parts.protocol.starts_with("rtmp") && second != std::string::npos;
  return (names_app ? parts.path.substr(0, second) : std::string()) + "/" + kHidden;
}

std::string shown_address(const Parts& parts) {
  if (parts.may_hide_a_password) return one_line(parts.protocol + "://" + kHidden);
  return one_line(parts.protocol + "://" + parts.server + shown_path(parts));
}

bool names_port(const std::string& server) { return server.rfind(':') != std::string::npos && !server.ends_with("]"); }

bool has_port(const std::string& server) {
  if (!names_port(server)) return false;
  const size_t colon = server.rfind(':');
  return std::all_of(server.begin() + static_cast<std::ptrdiff_t>(colon) + 1, server.end(),
                     [](unsigned char c) { return std::isdigit(c) != 0; }) &&
         colon + 1 < server.size();
}

// Of a password with a "/" the server would be what is before that.
Status check_port(const Parts& parts, const std::string& shown) {
  if (!names_port(parts.server) || has_port(parts.server)) return {};
  return invalid_argument(shown + ": the port is no number; in a password write / as %2F, ? as %3F and # as %23");
}

Status check_rtmp(const Parts& parts, const std::string& shown) {
  if (parts.server.empty() || parts.server.starts_with(":"))
    return invalid_argument(shown + ": names no server; write " + parts.protocol + "://HOST/APP/KEY");
  const size_t second = parts.path.find('/', 1);
  if (second == std::string::npos || second + 1 >= parts.path.size())
    return invalid_argument(shown + ": names no stream; write " + parts.protocol + "://HOST/APP/KEY");
  return {};
}

Status check_srt(const Parts& parts, const std::string& shown) {
  if (has_port(parts.server)) return {};
  return invalid_argument(shown + ": names no port; write srt://HOST:PORT");
}

Status check_whip(const Parts& parts, const std::string& shown) {
  if (!parts.server.empty() && !parts.server.starts_with(":")) return {};
  return invalid_argument(shown + ": names no server; write " + parts.protocol + "://HOST/PATH");
}

}  // namespace

bool is_stream(const std::string& output) { return output == "-" || !protocol_of(output).empty(); }

std::string without_secrets(const std::string& text) {
  for (size_t mark = text.find("://"); mark != std::string::npos; mark = text.find("://", mark + 1)) {
    size_t begin = mark;
    while (begin > 0 && is_of_protocol(static_cast<unsigned char>(text[begin - 1]))) --begin;
    if (begin < mark) return text.substr(0, begin) + shown_address(split(text.substr(begin)));
  }
  return text;
}

Expected<StreamAddress> parse_stream_address(const std::string& output) {
  if (output == "-") return StreamAddress{StreamAddress::Kind::kStandardOutput, output, "standard output"};
  const Parts parts = split(output);
  StreamAddress address;
  address.url = parts.protocol + output.substr(parts.protocol.size());
  address.shown = shown_address(parts);
  const bool is_whip = parts.protocol == "whip+https" || parts.protocol == "whip+http";
  const bool is_known = is_whip || parts.protocol == "srt" || parts.protocol == "rtmp" || parts.protocol == "rtmps";
  if (is_known && !parts.server.starts_with(":")) {
    LA_RETURN_IF_ERROR(check_port(parts, address.shown));
  }
  if (parts.protocol == "srt") {
    address.kind = StreamAddress::Kind::kSrt;
    LA_RETURN_IF_ERROR(check_srt(parts, address.shown));
    return address;
  }
  if (is_whip) {
    address.kind = StreamAddress::Kind::kWhip;
    address.url.erase(0, std::string_view("whip+").size());
    LA_RETURN_IF_ERROR(check_whip(parts, address.shown));
    return address;
  }
  address.kind = StreamAddress::Kind::kRtmp;
  if (parts.protocol != "rtmp" && parts.protocol != "rtmps")
    return invalid_argument(one_line(parts.protocol) +
                            "://: no protocol for a video; write rtmp://, rtmps://, srt:// or whip+https://");
  LA_RETURN_IF_ERROR(check_rtmp(parts, address.shown));
  return address;
}

}  // namespace liveavatar
