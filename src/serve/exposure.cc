#include "serve/exposure.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace liveavatar::serve {
namespace {

bool is_local(const in_addr& address) { return (ntohl(address.s_addr) >> 24) == 127; }

bool is_local(const in6_addr& address) {
  if (IN6_IS_ADDR_V4MAPPED(&address)) return address.s6_addr[12] == 127;
  return IN6_IS_ADDR_LOOPBACK(&address);
}

bool is_local_socket(int fd) {
  sockaddr_storage address{};
  socklen_t bytes = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) return true;
  if (address.ss_family == AF_INET) return is_local(reinterpret_cast<const sockaddr_in&>(address).sin_addr);
  if (address.ss_family == AF_INET6) return is_local(reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
  return true;
}

// An address of IPv6 may have a zone: "fe80::1%eth0".
bool parse(const std::string& text, in6_addr& address) {
  return ::inet_pton(AF_INET6, text.substr(0, text.find('%')).c_str(), &address) == 1;
}

}  // namespace

bool is_address(const std::string& text) {
  in_addr v4{};
  in6_addr v6{};
  return ::inet_pton(AF_INET, text.c_str(), &v4) == 1 || parse(text, v6);
}

bool is_local_only(const http::ServerOptions& options) {
  if (options.listen_fd >= 0) return is_local_socket(options.listen_fd);
  in_addr v4{};
  in6_addr v6{};
  if (::inet_pton(AF_INET, options.host.c_str(), &v4) == 1) return is_local(v4);
  return !parse(options.host, v6) || is_local(v6);
}

}  // namespace liveavatar::serve
