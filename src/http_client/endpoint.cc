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

}  // namespace

Status check_url(const std::string& url) {
  const size_t host = host_begin(url);
  const bool is_clean = std::all_of(url.begin(), url.end(), [](unsigned char c) { return c > ' ' && c < 127; });
  const bool is_good =
      host != std::string::npos && is_clean && url.size() > host && url.find_first_of("/?#@:", host) != host;
  if (is_good) return {};
  return invalid_argument("write http://HOST[:PORT]/PATH or https://...");
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
  std::string shown = url.substr(0, std::min(url.find_first_of("?#"), url.size()));
  const size_t path = std::min(shown.find('/', host), shown.size()), at = shown.rfind('@', path);
  if (at != std::string::npos && at >= host) shown.erase(host, at + 1 - host);
  return shown;
}

}  // namespace liveavatar::http_client
