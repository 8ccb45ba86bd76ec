// Who may use the server: keys, and the origins of web pages.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "serve/http/message.h"

namespace liveavatar::serve {

// In a time that does not depend on where they differ.
bool same_key(std::string_view given, std::string_view key);

// What the options may be: "*" or an origin as browsers send it; a name that can be in the header Host.
// kInvalidArgument: what to write.
Status check_origin(const std::string& origin);
Status check_host_name(const std::string& name);

class Access {
 public:
  Access(std::string key, std::vector<std::string> origins, std::vector<std::string> hosts = {})
      : key_(std::move(key)), origins_(std::move(origins)), hosts_(std::move(hosts)) {}

  // By "Authorization: Bearer KEY", or for a WebSocket of a browser, which cannot send that, by the protocol
  // "bearer.KEY" beside "liveavatar.v1".
  bool has_key(const http::Request& head) const;
  // Without a key: an address, localhost, or one that was named. Else a page of a name that its owner lets point at
  // this machine (DNS rebinding) would be the server's own page.
  bool is_host_allowed(const http::Request& head) const;
  // The server's own page, a page that was allowed, or no page at all.
  bool is_origin_allowed(const http::Request& head) const;
  // For a page of another origin that is allowed; nothing for others.
  void add_cors(const http::Request& head, http::Headers& headers) const;

 private:
  bool is_listed(std::string_view origin) const;
  const std::string key_;
  const std::vector<std::string> origins_, hosts_;
};

constexpr const char* kSocketProtocol = "liveavatar.v1";
// Whether a client offers kSocketProtocol.
bool offers_protocol(const http::Request& head);

}  // namespace liveavatar::serve
