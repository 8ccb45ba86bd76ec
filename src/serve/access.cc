#include "serve/access.h"

#include <algorithm>

#include "core/text.h"
#include "media/stream_address.h"
#include "serve/exposure.h"

namespace liveavatar::serve {
namespace {

constexpr std::string_view kBearer = "bearer ", kBearerProtocol = "bearer.";

// The protocols that a client offers, in its order.
std::vector<std::string_view> protocols_of(const http::Request& head) {
  std::vector<std::string_view> all;
  for (std::string_view rest = head.header("sec-websocket-protocol"); !rest.empty();) {
    std::string_view one = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    while (one.starts_with(' ')) one.remove_prefix(1);
    while (one.ends_with(' ')) one.remove_suffix(1);
    all.push_back(one);
  }
  return all;
}

// "here" of "Here:8080", "::1" of "[::1]:8080".
std::string name_of(std::string_view host) {
  const bool is_bracketed = host.starts_with('[');
  if (is_bracketed) host.remove_prefix(1);
  return lower_case(std::string(host.substr(0, host.find(is_bracketed ? ']' : ':'))));
}

}  // namespace

bool same_key(std::string_view given, std::string_view key) {
  unsigned different = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < key.size(); ++i) {
    const char other = given.empty() ? '\0' : given[i % given.size()];
    different |= static_cast<unsigned char>(other ^ key[i]);
  }
  return different == 0;
}

Status check_origin(const std::string& origin) {
  if (origin == "*") return {};
  const size_t mark = origin.find("://");
  const std::string scheme = origin.substr(0, std::min(mark, origin.size()));
  const std::string server = mark == std::string::npos ? "" : origin.substr(mark + 3);
  const bool is_clean = std::all_of(server.begin(), server.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           std::string_view("-._:[]").find(char(c)) != std::string_view::npos;
  });
  const bool has_default_port =
      (scheme == "http" && server.ends_with(":80")) || (scheme == "https" && server.ends_with(":443"));
  if ((scheme == "http" || scheme == "https") && !server.empty() && is_clean && !has_default_port) return {};
  return invalid_argument("`cors_origin` " + without_secrets(origin) +
                          ": no origin; write it as browsers send it: https://HOST[:PORT] in small letters, without a "
                          "path and without the scheme's own port");
}

Status check_host_name(const std::string& name) {
  const bool is_name = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_';
  });
  if (is_name) return {};
  return invalid_argument("`allow_host` " + name +
                          ": no name; write it without scheme, port and path, as studio.example.org");
}

bool Access::has_key(const http::Request& head) const {
  if (key_.empty()) return true;
  const std::string_view given = head.header("authorization");
  if (lower_case(std::string(given.substr(0, kBearer.size()))) == kBearer)
    return same_key(given.substr(kBearer.size()), key_);
  for (const std::string_view protocol : protocols_of(head))
    if (protocol.starts_with(kBearerProtocol)) return same_key(protocol.substr(kBearerProtocol.size()), key_);
  return false;
}

bool Access::is_listed(std::string_view origin) const {
  return std::any_of(origins_.begin(), origins_.end(),
                     [&](const std::string& one) { return one == "*" || one == origin; });
}

bool Access::is_host_allowed(const http::Request& head) const {
  const std::string_view host = head.header("host");
  if (!key_.empty() || host.empty()) return true;  // a browser always sends one
  const std::string name = name_of(host);
  return name == "localhost" || is_address(name) ||
         std::any_of(hosts_.begin(), hosts_.end(), [&](const std::string& one) { return lower_case(one) == name; });
}

bool Access::is_origin_allowed(const http::Request& head) const {
  const std::string_view origin = head.header("origin");
  if (origin.empty()) return true;
  const size_t host = origin.find("://");
  const bool is_own = host != std::string_view::npos && origin.substr(host + 3) == head.header("host");
  return is_own || is_listed(origin);
}

void Access::add_cors(const http::Request& head, http::Headers& headers) const {
  const std::string_view origin = head.header("origin");
  if (origin.empty() || !is_listed(origin)) return;
  headers.emplace_back("Access-Control-Allow-Origin", std::string(origin));
  headers.emplace_back("Vary", "Origin");
  headers.emplace_back("Access-Control-Expose-Headers", "Retry-After, Content-Range, Accept-Ranges, Location");
  if (head.method != "OPTIONS") return;
  headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE");
  headers.emplace_back("Access-Control-Allow-Headers", "Authorization, Content-Type, Range");
  headers.emplace_back("Access-Control-Max-Age", "600");
}

bool offers_protocol(const http::Request& head) {
  const std::vector<std::string_view> offered = protocols_of(head);
  return std::find(offered.begin(), offered.end(), kSocketProtocol) != offered.end();
}

}  // namespace liveavatar::serve
