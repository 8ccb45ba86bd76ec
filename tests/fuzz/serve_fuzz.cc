// What clients of the server send, as our own code reads it. The first line is a header, a path and a query; the rest a
// body, an event and more headers.
#include <algorithm>
#include <functional>

#include "must.h"
#include "serve/access.h"
#include "serve/base64.h"
#include "serve/errors.h"
#include "serve/live_events.h"
#include "serve/multipart.h"
#include "serve/portraits.h"
#include "serve/routes.h"
#include "serve/small_json.h"
#include "serve/video_fields.h"
#include "serve/video_streams.h"
#include "serve/whep_session.h"

namespace {

using namespace liveavatar;
using namespace liveavatar::serve;
using fuzz::must;

// Whatever a client sent, what it is told is JSON in one line.
void tell(const Status& status) {
  const std::string body = error_response(status).body;
  must(nlohmann::json::accept(body) && body.find('\n') == std::string::npos, "an error is JSON in one line");
  must(nlohmann::json::accept(error_event(400, "x", status.message())), "an error event is JSON");
}

void read_form(const std::string& type, std::string_view body) {
  const auto parts = parse_form(type, body);
  if (!parts.ok()) return tell(parts.status());
  const std::less_equal<> not_after;
  for (const FormPart& part : *parts)
    must(!part.name.empty() &&
             (part.bytes.empty() || (not_after(body.data(), part.bytes.data()) &&
                                     not_after(part.bytes.data() + part.bytes.size(), body.data() + body.size()))),
         "a part is named and within the body");
}

void read_video(const std::string& type, const std::string& body) {
  const auto inputs = parse_video_inputs(type, body);
  if (!inputs.ok()) return tell(inputs.status());
  const auto request = video_request(*inputs);
  if (!request.ok()) return tell(request.status());
  must(request->sample_steps >= 1 && request->sample_steps <= 1000 && request->sample_shift >= 0.01 &&
           request->sample_shift <= 100,
       "numbers are within their ranges");
}

void read_event(const std::string& text) {
  const auto event = parse_live_event(text);
  if (!event.ok()) return tell(event.status());
  const auto start = parse_live_start(event->body);
  if (!start.ok()) return tell(start.status());
  must(!start->portrait.empty() && start->request.sample_rate >= 1, "a start has a portrait and a rate");
}

void read_range(std::string_view header) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, uint64_t{100}, UINT64_MAX}) {
    const ByteRange range = parse_range(header, bytes);
    if (range.kind != ByteRange::Kind::kPart) continue;
    must(range.first <= range.last && range.last < bytes, "a range is within the file");
  }
}

void read_path(const std::string& line) {
  const auto path = http::percent_decoded(line);
  if (!path.ok()) return tell(path.status());
  must(path->find('\0') == std::string::npos, "a path has no NUL");
  for (const char* method : {"GET", "HEAD", "PUT", "POST"}) {
    const RouteMatch match = match_route(method, *path);
    must(match.route == nullptr || !match.allowed.empty(), "a path with a route has methods");
  }
  const bool is_name = Portraits::is_name(*path);
  must(!is_name || path->find_first_of("/.\\") == std::string::npos, "a portrait's name is no path");
}

void read_query(const std::string& query) {
  const auto start = parse_whep_query(query);
  if (!start.ok()) return tell(start.status());
  must(Portraits::is_name(start->portrait), "a portrait of a query is a name");
}

// Lines "name: value".
http::Headers headers_of(std::string_view text) {
  http::Headers headers;
  while (!text.empty() && headers.size() < 16) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t colon = std::min(line.find(':'), line.size());
    headers.emplace_back(line.substr(0, colon), line.substr(std::min(line.size(), colon + 1)));
  }
  return headers;
}

void read_headers(std::string_view text) {
  const http::Request head{"OPTIONS", "/", {}, {}, headers_of(text), {}};
  static const Access keyed("secret", {"https://friend.example"}), open("", {"*"}, {"here.example"});
  must(!keyed.has_key(head) || text.find("secret") != std::string_view::npos, "who has no key gets none");
  for (const Access* access : {&keyed, &open}) {
    http::Headers cors;
    static_cast<void>(access->is_host_allowed(head) && access->is_origin_allowed(head));
    access->add_cors(head, cors);
    static_cast<void>(offers_protocol(head) && head.announces_body());
  }
}

void read_base64(std::string_view text) {
  const auto bytes = base64_decoded(text);
  must(!bytes || bytes->size() <= text.size() / 4 * 3 + 2, "base64 becomes shorter");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  const std::string text(reinterpret_cast<const char*>(data), bytes);
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string line = text.substr(0, end), body = text.substr(std::min(text.size(), end + 1));
  read_form(line, body);
  read_form("multipart/form-data; boundary=x", body);
  read_video(is_video_body(line) ? line : "application/json", body);
  read_video("multipart/form-data; boundary=x", body);
  read_event(body);
  read_range(line);
  read_path(line);
  read_query(line);
  read_headers(body);
  read_base64(body);
  return 0;
}
