#include "serve/http/beast_stream.h"

#include <unistd.h>

namespace liveavatar::http {

Expected<std::shared_ptr<TlsContext>> load_tls(const std::string& certificate_file, const std::string& key_file) {
  for (const std::string& file : {certificate_file, key_file})
    if (::access(file.c_str(), R_OK) != 0) return not_found(file + " cannot be read; give the file for TLS as PEM");
  auto tls = std::make_shared<TlsContext>(TlsContext::tls_server);
  SSL_CTX_set_min_proto_version(tls->native_handle(), TLS1_2_VERSION);
  error_code error;
  // Without it OpenSSL would ask at the terminal.
  tls->set_password_callback([](size_t, TlsContext::password_purpose) { return std::string(); }, error);
  tls->use_certificate_chain_file(certificate_file, error);
  if (error) return corrupt(certificate_file + " is no chain of certificates in PEM: " + error.message());
  tls->use_private_key_file(key_file, TlsContext::pem, error);
  if (error)
    return corrupt(key_file + " is no key in PEM without a password for " + certificate_file + ": " + error.message());
  return tls;
}

}  // namespace liveavatar::http
