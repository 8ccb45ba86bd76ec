// The client by libcurl.
#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

#include "core/boundary.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/text.h"
#include "http_client/client.h"

namespace liveavatar::http_client {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kMostErrorBytes = 4096, kMostShownBytes = 200;

Status no_memory() { return out_of_memory("failed: the system has no memory for the request"); }

template <auto free>
struct Cleanup {
  template <typename T>
  void operator()(T* handle) const {
    free(handle);
  }
};
template <typename T, auto free>
using Owned = std::unique_ptr<T, Cleanup<free>>;

// What stands for the key may have the key in it, "K", so the search goes on behind it.
std::string without_key(std::string text, const std::string& key) {
  constexpr std::string_view kInstead = "KEY";
  if (key.empty()) return text;
  for (size_t at = text.find(key); at != std::string::npos; at = text.find(key, at + kInstead.size()))
    text.replace(at, key.size(), kInstead);
  return text;
}

// One request.
class Transfer {
 public:
  Transfer(const Endpoint& endpoint, const Post& what, const BodySink& sink)
      : endpoint_(endpoint), what_(what), sink_(sink) {}
  Status run(const std::stop_token& stop);
  AnswerHead head() const;

 private:
  Status prepare();
  void set_limits();
  Status set_body();
  std::string header(const char* name) const;
  void locate(AnswerHead& head) const;
  Status drive(const std::stop_token& stop);
  Status check_time() const;
  Status result(CURLcode code);
  std::string refusal_text() const;
  long http_status() const;
  static size_t on_bytes(char* bytes, size_t one, size_t count, void* transfer);
  size_t take(std::string_view bytes);

  const Endpoint& endpoint_;
  const Post& what_;
  const BodySink& sink_;
  Owned<curl_slist, curl_slist_free_all> headers_;
  Owned<CURL, curl_easy_cleanup> easy_;
  Owned<curl_mime, curl_mime_free> mime_;  // after easy_, to which it belongs
  Owned<CURLM, curl_multi_cleanup> multi_;
  size_t bytes_ = 0;
  std::string refusal_;  // the body of an answer that is no 2xx
  Status failed_;        // of the sink, or too much
  std::exception_ptr thrown_;
  Clock::time_point begun_ = Clock::now(), heard_ = begun_;
};

// What is thrown waits until the library has returned: its frames are C.
size_t Transfer::on_bytes(char* bytes, size_t one, size_t count, void* transfer) {
  auto* self = static_cast<Transfer*>(transfer);
  try {
    return self->take({bytes, one * count});
  } catch (...) {
    self->thrown_ = std::current_exception();
    return 0;
  }
}

// Less than all of it ends the call.
size_t Transfer::take(std::string_view bytes) {
  heard_ = Clock::now();
  const long status = http_status();
  if (status < 200 || status > 299) {
    refusal_.append(bytes.substr(0, kMostErrorBytes - std::min(kMostErrorBytes, refusal_.size())));
    return refusal_.size() < kMostErrorBytes ? bytes.size() : 0;
  }
  bytes_ += bytes.size();
  if (bytes_ > what_.most_bytes) failed_ = io_error("sent more than " + std::to_string(what_.most_bytes) + " bytes");
  if (failed_.ok()) failed_ = contained("failed", [&] { return sink_(bytes); });
  heard_ = Clock::now();  // the sink may have waited
  return failed_.ok() ? bytes.size() : 0;
}

long Transfer::http_status() const {
  long status = 0;
  curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
  return status;
}

void Transfer::set_limits() {
  CURL* easy = easy_.get();
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");  // also none of the environment: it would see the key
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(endpoint_.connect_s * 1000));
#if LIBCURL_VERSION_NUM >= 0x075700
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // a stop does not wait for a name server
#endif
}

Status Transfer::set_body() {
  CURL* easy = easy_.get();
  if (what_.method != "POST") {
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, what_.method.c_str());
    return {};
  }
  if (what_.parts.empty()) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(what_.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, what_.body.c_str());
    return {};
  }
  mime_.reset(curl_mime_init(easy));
  if (!mime_) return no_memory();
  for (const Part& part : what_.parts) {
    curl_mimepart* made = curl_mime_addpart(mime_.get());
    if (made == nullptr) return no_memory();
    const CURLcode results[] = {curl_mime_name(made, part.name.c_str()),
                                curl_mime_data(made, part.bytes.data(), part.bytes.size()),
                                curl_mime_filename(made, part.file_name.empty() ? nullptr : part.file_name.c_str()),
                                curl_mime_type(made, part.content_type.empty() ? nullptr : part.content_type.c_str())};
    for (const CURLcode result : results)
      if (result != CURLE_OK) return no_memory();
  }
  curl_easy_setopt(easy, CURLOPT_MIMEPOST, mime_.get());
  return {};
}

Status Transfer::prepare() {
  easy_.reset(curl_easy_init());
  multi_.reset(curl_multi_init());
  if (!easy_ || !multi_) return no_memory();
  CURL* easy = easy_.get();
  curl_easy_setopt(easy, CURLOPT_URL, endpoint_.url.c_str());
  set_limits();
  LA_RETURN_IF_ERROR(set_body());
  std::vector<std::string> lines{"Expect:", "User-Agent: liveavatar"};
  if (what_.parts.empty() && what_.method == "POST") lines.push_back("Content-Type: " + what_.content_type);
  if (!endpoint_.key.empty()) lines.push_back("Authorization: Bearer " + endpoint_.key);
  for (const std::string& line : lines) {
    curl_slist* longer = curl_slist_append(headers_.get(), line.c_str());
    if (longer == nullptr) return no_memory();
    static_cast<void>(headers_.release());
    headers_.reset(longer);
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_.get());
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Transfer::on_bytes);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, this);
  return {};
}

std::string Transfer::header(const char* name) const {
  curl_header* found = nullptr;
  const CURLHcode code = curl_easy_header(easy_.get(), name, 0, CURLH_HEADER, -1, &found);
  return code == CURLHE_OK ? found->value : std::string();
}

// Which may be relative to the URL that was asked.
void Transfer::locate(AnswerHead& head) const {
  const std::string location = header("location");
  const Owned<CURLU, curl_url_cleanup> here(curl_url()), there(curl_url());
  auto set = [](CURLU* url, const std::string& text) {
    return curl_url_set(url, CURLUPART_URL, text.c_str(), 0) == CURLUE_OK;
  };
  auto part = [](CURLU* url, CURLUPart which) {
    char* text = nullptr;
    curl_url_get(url, which, &text, CURLU_DEFAULT_PORT);
    const Owned<char, curl_free> owner(text);
    return text != nullptr ? lower_case(text) : std::string();
  };
  const bool is_known = !location.empty() && here && there && set(here.get(), endpoint_.url) &&
                        set(there.get(), endpoint_.url) && set(there.get(), location);
  if (!is_known) return;
  char* text = nullptr;
  curl_url_get(there.get(), CURLUPART_URL, &text, 0);
  const Owned<char, curl_free> owner(text);
  if (text != nullptr) head.location = text;
  head.is_same_server = true;
  for (const CURLUPart which : {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT})
    head.is_same_server = head.is_same_server && part(here.get(), which) == part(there.get(), which);
}

AnswerHead Transfer::head() const {
  AnswerHead head;
  head.status = http_status();
  head.content_type = header("content-type");
  locate(head);
  return head;
}

Status Transfer::check_time() const {
  auto seconds = [](double value) { return std::to_string(std::llround(value)) + " s"; };
  if (seconds_since(begun_) > endpoint_.total_s) return io_error("did not finish in " + seconds(endpoint_.total_s));
  // Before there is a connection libcurl has its own limit.
  curl_off_t connect_us = 0;
  curl_easy_getinfo(easy_.get(), CURLINFO_CONNECT_TIME_T, &connect_us);
  const double stall_s = connect_us > 0 ? endpoint_.stall_s : endpoint_.connect_s + endpoint_.stall_s;
  if (seconds_since(heard_) > stall_s) return io_error("sent nothing for " + seconds(endpoint_.stall_s));
  return {};
}

// What an API of OpenAI's shape says, else the beginning of the text.
std::string Transfer::refusal_text() const {
  const nlohmann::json json = nlohmann::json::parse(refusal_, nullptr, false);
  std::string text = refusal_;
  if (json.is_object() && json.contains("error")) {
    const nlohmann::json& error = json["error"];
    if (error.is_string()) text = error.get<std::string>();
    if (error.is_object() && error.contains("message") && error["message"].is_string())
      text = error["message"].get<std::string>();
  }
  text = without_key(std::move(text), endpoint_.key);
  if (text.size() > kMostShownBytes) text = text.substr(0, kMostShownBytes) + "...";
  return one_line(text);
}

Status Transfer::result(CURLcode code) {
  if (!failed_.ok()) return failed_;
  const long status = http_status();
  const bool is_refused = status != 0 && (status < 200 || status > 299) && (code == CURLE_OK || !refusal_.empty());
  if (is_refused) {
    std::string message = "answered " + std::to_string(status);
    if (status >= 300 && status < 400) message += ", which points elsewhere: give that URL";
    if (endpoint_.tells_answer && !refusal_.empty()) message += ": " + refusal_text();
    return io_error(message);
  }
  return code == CURLE_OK ? Status() : io_error(std::string("failed: ") + curl_easy_strerror(code));
}

Status Transfer::drive(const std::stop_token& stop) {
  constexpr int kStepMs = 200;
  const std::stop_callback wake(stop, [this] { curl_multi_wakeup(multi_.get()); });
  for (;;) {
    int running = 0;
    const CURLMcode done = curl_multi_perform(multi_.get(), &running);
    if (stop.stop_requested()) return cancelled("stopped");
    if (done != CURLM_OK) return io_error(std::string("failed: ") + curl_multi_strerror(done));
    if (running == 0) break;
    LA_RETURN_IF_ERROR(check_time());
    curl_multi_poll(multi_.get(), nullptr, 0, kStepMs, nullptr);
  }
  int left = 0;
  const CURLMsg* message = curl_multi_info_read(multi_.get(), &left);
  return message == nullptr ? io_error("failed: libcurl tells no result") : result(message->data.result);
}

Status Transfer::run(const std::stop_token& stop) {
  LA_RETURN_IF_ERROR(prepare());
  const CURLMcode added = curl_multi_add_handle(multi_.get(), easy_.get());
  if (added != CURLM_OK) return io_error(std::string("failed: ") + curl_multi_strerror(added));
  const Status status = drive(stop);
  curl_multi_remove_handle(multi_.get(), easy_.get());
  if (thrown_) std::rethrow_exception(thrown_);  // post() contains it
  return status;
}

Status begin_library() {
  static const CURLcode begun = curl_global_init(CURL_GLOBAL_DEFAULT);
  return begun == CURLE_OK ? Status() : io_error("failed: libcurl does not start");
}

}  // namespace

Status post(const Endpoint& endpoint, const Post& what, const BodySink& sink, const std::stop_token& stop,
            AnswerHead* head) {
  return contained("failed", [&]() -> Status {
    LA_RETURN_IF_ERROR(begin_library());
    Transfer transfer(endpoint, what, sink);
    const Status status = transfer.run(stop);
    if (head != nullptr) *head = transfer.head();
    return status;
  });
}

std::string missing_client() { return {}; }

}  // namespace liveavatar::http_client
