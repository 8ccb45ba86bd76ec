#include "serve/speech_requests.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "core/boundary.h"
#include "serve/errors.h"
#include "serve/small_json.h"
#include "voice/wav_reader.h"

namespace liveavatar::serve {
namespace {

constexpr size_t kMostTextBytes = 8 << 10;
constexpr size_t kMostSoundBytes = size_t{kSpeechRequestHz} * 2 * 900;  // 15 minutes
constexpr int kRetry_s = 2;

http::Response failed(const Status& status) {
  if (status.code() == ErrorCode::kInvalidArgument) return error_response(status);
  if (status.code() == ErrorCode::kUnsupported) return error_response(501, "no_speech", status.message());
  return error_response(502, "speech", failure_of("the voice", status));
}

}  // namespace

Expected<SpeechRequest> parse_speech_request(const std::string& body) {
  LA_ASSIGN_OR_RETURN(const nlohmann::json json, parse_small_json(body, "the request"));
  SpeechRequest request;
  JsonReader reader(json, "the request");
  request.text.text = reader.text("input", "");
  request.text.voice = reader.text("voice", "");
  const std::string format = reader.text("response_format", "wav");
  static_cast<void>(reader.text("model", ""));  // there is one voice
  LA_RETURN_IF_ERROR(client_error(reader.status()));
  LA_RETURN_IF_ERROR(check_spoken(request.text.text, kMostTextBytes));
  if (format != "wav" && format != "pcm") return invalid_argument("response_format is \"wav\" or \"pcm\"");
  request.is_wav = format == "wav";
  return request;
}

// Sound on its way from a thread that speaks to the I/O thread.
class SpeechSound {
 public:
  explicit SpeechSound(std::shared_ptr<std::atomic<int>> open) : open_(std::move(open)) { ++*open_; }
  ~SpeechSound() { --*open_; }

  void add(std::string_view bytes) {
    std::lock_guard lock(mutex_);
    bytes_ += bytes;
  }
  void end(Status status) {
    std::lock_guard lock(mutex_);
    ended_ = true;
    status_ = std::move(status);
  }
  // Throws where the speech failed: what is sent already cannot become an error.
  http::BodyStream::State next(std::string& out) {
    constexpr size_t kMost = 64 << 10;
    std::lock_guard lock(mutex_);
    const size_t count = std::min(kMost, bytes_.size() - sent_);
    out.append(bytes_, sent_, count);
    sent_ += count;
    const bool is_worth_it = sent_ > bytes_.size() / 2;
    if (is_worth_it) bytes_.erase(0, std::exchange(sent_, 0));
    if (count > 0) return http::BodyStream::State::kMore;
    if (!ended_) return http::BodyStream::State::kWait;
    if (!status_.ok()) throw std::runtime_error(status_.message());
    return http::BodyStream::State::kEnd;
  }
  std::stop_source stop;  // the client has gone

 private:
  const std::shared_ptr<std::atomic<int>> open_;
  std::mutex mutex_;
  std::string bytes_;
  size_t sent_ = 0;
  bool ended_ = false;
  Status status_;
};

namespace {

class SoundStream final : public http::BodyStream {
 public:
  explicit SoundStream(std::shared_ptr<SpeechSound> sound) : sound_(std::move(sound)) {}
  ~SoundStream() override { sound_->stop.request_stop(); }
  State next(std::string& out) override { return sound_->next(out); }

 private:
  const std::shared_ptr<SpeechSound> sound_;
};

}  // namespace

SpeechRequests::SpeechRequests(std::shared_ptr<Synthesizer> voice) : voice_(std::move(voice)) {
  try {
    for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { run(); });
  } catch (...) {
    end();  // a thread that is not joined would end the process
    throw;
  }
}

void SpeechRequests::end() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  stop_.request_stop();
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void SpeechRequests::open(const http::Request& request, http::Reply reply) {
  constexpr size_t kMostBodyBytes = 64 << 10;  // this is the I/O thread
  if (request.body.size() > kMostBodyBytes)
    return reply(error_response(413, "too_large", "the body has 64 KiB at most"));
  auto parsed = contained("the request", [&] { return parse_speech_request(request.body); });
  if (!parsed.ok()) return reply(failed(parsed.status()));
  std::lock_guard lock(mutex_);
  forget_gone();
  if (*open_ >= kMostOpen)
    return reply(busy_response("speech", "too many texts are being spoken; try again", kRetry_s));
  waiting_.push_back({*std::move(parsed), std::make_shared<SpeechSound>(open_), std::move(reply), request.gone});
  changed_.notify_all();
}

void SpeechRequests::forget_gone() {
  std::erase_if(waiting_, [](const Work& work) { return work.gone.stop_requested(); });
}

void SpeechRequests::drain() {
  std::deque<Work> refused;
  {
    std::lock_guard lock(mutex_);
    refused.swap(waiting_);
  }
  for (const Work& work : refused)
    work.reply(busy_response("draining", "the server ends and takes no more work", kRetry_s));
}

void SpeechRequests::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return ended_ || !waiting_.empty(); });
    if (ended_) return;
    forget_gone();
    if (waiting_.empty()) continue;
    Work work = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    // Without memory for an answer the connection has its own.
    const Status done = contained("failed", [&]() -> Status {
      speak(work);
      return {};
    });
    if (!done.ok()) work.sound->end(done);
    work = {};
    lock.lock();
  }
}

void SpeechRequests::speak(Work& work) {
  const auto stop = [&] { work.sound->stop.request_stop(); };
  const std::stop_callback with_all(stop_.get_token(), stop), with_client(work.gone, stop);
  size_t bytes = 0;
  bool has_replied = false;
  const PcmSink sink = [&](std::span<const int16_t> samples, int) {
    bytes += samples.size_bytes();
    if (bytes > kMostSoundBytes) return false;
    if (!has_replied && work.request.is_wav) work.sound->add(wav_head(kSpeechRequestHz, {}));
    work.sound->add({reinterpret_cast<const char*>(samples.data()), samples.size_bytes()});
    if (has_replied) return true;
    has_replied = true;
    http::Response response{.content_type = work.request.is_wav ? "audio/wav" : "audio/pcm"};
    response.stream = std::make_shared<SoundStream>(work.sound);
    work.reply(std::move(response));
    return true;
  };
  const Status spoken = contained("failed", [&] {
    return speak_all(*voice_, work.request.text, kSpeechRequestHz, sink, work.sound->stop.get_token());
  });
  work.sound->end(spoken);
  if (has_replied) return;
  work.reply(spoken.ok() ? error_response(502, "speech", "the voice made no sound of this text") : failed(spoken));
}

}  // namespace liveavatar::serve
