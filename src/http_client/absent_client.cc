#include "http_client/client.h"

namespace liveavatar::http_client {

std::string missing_client() { return "built without libcurl: install libcurl4-openssl-dev and build again"; }

Status post(const Endpoint&, const Post&, const BodySink&, const std::stop_token&, AnswerHead*) {
  return unsupported(missing_client());
}

}  // namespace liveavatar::http_client
