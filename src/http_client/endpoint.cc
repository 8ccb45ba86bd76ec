// What of a URL can be checked and shown without the library.
#include <algorithm>

#include "http_client/client.h"

namespace liveavatar::http_client {
namespace {

size_t host_begin(const std::string& url) {
  for (const std::string_view scheme : {"http://", "https://"})
    if (url.starts_with(scheme)) return scheme.size();
  return std::string::npos;
}

// An "@" behind the server: of a path, or of a password with a "/", "?" or "#", which nobody can tell.
bool may_hide_a_password(const std::string& url, size_t host) {
  const size_t end = url.find_first_of("/?#", host);
  return end != std::string::npos && url.find('@', end) != std::string::npos;
}

// "a.b:80", "[::1]:80"; without user and password.
bool has_good_port(const std::string& server) {
  const size_t colon = server.rfind(':');
  if (colon == std::string::npos || server.find(']', colon) != std::string::npos) return true;
  return colon + 1 < server.size() && server.find_first_not_of("0123456789", colon + 1) == std::string::npos;
}

}  // namespace

Status check_url(const std::string& url) {
  const size_t host = host_begin(url);
  const bool is_clean = std::all_of(url.begin(), url.end(), [](unsigned char c) { return c > ' ' && c < 127; });
  const bool is_good =
      host != std::string::npos && is_clean && url.size() > host && url.find_first_of("/?#@:", host) != host;
  if (!is_good) return invalid_argument("write http://HOST[:PORT]/PATH or https://...");
  const std::string server = url.substr(host, std::min(url.find_first_of("/?#", host), url.size()) - host);
  if (has_good_port(server.substr(server.rfind('@') + 1))) return {};  // npos + 1 is 0
  return invalid_argument("the port is no number; in a password write / as %2F, ? as %3F and # as %23");
}

std::string full_url(const std::string& url, const std::string& tail) {
  const size_t host = host_begin(url);
  if (host == std::string::npos || url.find_first_of("?#") != std::string::npos) return url;
  std::string base = url;
  while (base.size() > host && base.back() == '/') base.pop_back();
  if (base.find('/', host) == std::string::npos) return base + "/v1" + tail;
  return base.ends_with("/v1") ? base + tail : url;
}

std::string shown_url(const std::string& url) {
  const size_t host = host_begin(url);
  if (host == std::string::npos) return "the URL";
  if (may_hide_a_password(url, host)) return url.substr(0, host) + "***";
  std::string shown = url.substr(0, std::min(url.find_first_of("?#"), url.size()));
  const size_t path = std::min(shown.find('/', host), shown.size()), at = shown.rfind('@', path);
  if (at != std::string::npos && at >= host) shown.erase(host, at + 1 - host);
  return shown;
}

}  // namespace liveavatar::http_client
