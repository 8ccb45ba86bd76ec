// POST and DELETE to another server, over http and https. Where it was built without libcurl, missing_client() says so.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace liveavatar::http_client {

// Another server that the operator named. The key is never in a message.
struct Endpoint {
  std::string url, key;       // key: sent as Authorization: Bearer KEY; empty: none
  double connect_s = 10;      // until there is a connection
  double stall_s = 30;        // without a byte
  double total_s = 300;       // of a call
  bool tells_answer = false;  // messages have what the other server wrote where it refused; it may name accounts
};
// kInvalidArgument: no http:// or https://, or no host.
Status check_url(const std::string& url);
// An API's base ("http://host:8880", ".../v1") with the tail that it has there, "/audio/speech"; another URL as it is.
std::string full_url(const std::string& url, const std::string& tail);
// Without user, password and query, for messages.
std::string shown_url(const std::string& url);

struct Part {
  std::string name, bytes, file_name, content_type;  // file_name: empty: a plain field
};

struct Post {
  std::string method = "POST";  // another one goes without a body
  std::string body, content_type = "application/json";
  std::vector<Part> parts;  // instead of the body: multipart/form-data
  size_t most_bytes = 16 << 20;
};

// Of an answer, also of a refusal.
struct AnswerHead {
  long status = 0;  // 0: none came
  std::string content_type;
  std::string location;         // in full
  bool is_same_server = false;  // as the one that was asked: the key may go there
};

// Bytes of the answer's body as they come. An error ends the call with it. May wait.
using BodySink = std::function<Status(std::string_view bytes)>;

// Any thread, several at once. Waits until the answer is complete, or soon after a stop: kCancelled. kIo: no
// connection, silence, too much, or a status other than 2xx; the message does not name the server, for the caller does.
// Redirects are not followed: a key is for one server.
Status post(const Endpoint& endpoint, const Post& what, const BodySink& sink, const std::stop_token& stop,
            AnswerHead* head = nullptr);

// "" where this program can ask other servers; else what is missing and what to install.
std::string missing_client();

}  // namespace liveavatar::http_client
