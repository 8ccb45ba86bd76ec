#include "serve/whip.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "core/text.h"
#include "http_client/client.h"
#include "media/live_stream.h"
#include "media/stream_address.h"

namespace liveavatar::serve {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
constexpr double kFrameSeconds = 0.04, kConnectSeconds = 10;

// What the peer's threads say. It outlives the peer by its last call.
class Line {
 public:
  void connected() {
    std::lock_guard lock(mutex_);
    connected_ = true;
    changed_.notify_all();
  }
  void end(const std::string& why) {
    std::lock_guard lock(mutex_);
    if (why_.empty()) why_ = why;
    changed_.notify_all();
  }
  Status wait(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, Seconds(kConnectSeconds), [this] { return connected_ || !why_.empty(); });
    if (stop.stop_requested()) return cancelled("stopped on request");
    if (!why_.empty()) return io_error(why_);
    if (connected_) return {};
    return io_error("no connection over WebRTC within 10 s; look whether a firewall lets UDP through");
  }
  Status state() {
    std::lock_guard lock(mutex_);
    return why_.empty() ? Status() : io_error(why_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool connected_ = false;
  std::string why_;  // it ended; empty: it did not
};

// What the server has of a call, until it is told that it is over.
class Resource {
 public:
  explicit Resource(http_client::Endpoint where) : where_(std::move(where)) {}
  ~Resource() {
    if (where_.url.empty()) return;
    http_client::Post end;
    end.method = "DELETE";
    // The peer's goodbye says it too, so that a server without an answer loses nothing.
    static_cast<void>(http_client::post(where_, end, [](std::string_view) { return Status(); }, {}).ok());
  }
  Resource(const Resource&) = delete;
  Resource& operator=(const Resource&) = delete;

 private:
  const http_client::Endpoint where_;  // url empty: the server named none
};

class WhipStream final : public LiveStream {
 public:
  WhipStream(std::string shown, std::unique_ptr<rtc::Peer> peer, std::shared_ptr<Line> line,
             std::unique_ptr<Resource> resource)
      : shown_(std::move(shown)), peer_(std::move(peer)), line_(std::move(line)), resource_(std::move(resource)) {}
  ~WhipStream() override { hang_up(); }

  Status write(const LiveFrames& f) override {
    LA_RETURN_IF_ERROR(state());
    const Clock::time_point now = Clock::now();
    if (!begun_) {
      begun_ = true;
      begin_ = now;
      first_ = f.first_frame;
    }
    // What stood still for longer than the receiver's buffer is a pause, or all that follows would be late for good.
    constexpr double kLate = 0.5;
    const double late = Seconds(now - begin_).count() - double(f.first_frame - first_) * kFrameSeconds - paused_;
    if (late > kLate) paused_ += late;
    LiveChunk chunk;
    chunk.first_frame = f.first_frame - first_;
    chunk.frames = f.frames;
    chunk.rgb = f.rgb;
    chunk.audio = f.audio;
    chunk.samples = f.samples;
    chunk.paused_seconds = paused_;
    peer_->write(chunk);
    frames_ = chunk.first_frame + f.frames;
    return {};
  }

  // Frames go out at their times.
  Status finish() override {
    constexpr double kOnTheWay = 0.3;  // encoder and network
    const Seconds all(double(frames_) * kFrameSeconds + paused_ + kOnTheWay);
    const auto latest =
        std::min(begin_ + std::chrono::duration_cast<Clock::duration>(all), Clock::now() + std::chrono::seconds(2));
    constexpr std::chrono::milliseconds kStep(20);
    while (begun_ && Clock::now() < latest && state().ok()) std::this_thread::sleep_for(kStep);
    const Status ended = state();
    hang_up();
    return ended;
  }

 private:
  Status state() {
    Status status = line_->state();
    if (status.ok() && peer_ && peer_->is_silent()) status = io_error("nothing comes from the server any more");
    return status.ok() ? status : io_error(shown_ + ": the connection was lost (" + status.message() + ")");
  }
  void hang_up() {
    resource_.reset();
    peer_.reset();
  }

  const std::string shown_;
  std::unique_ptr<rtc::Peer> peer_;
  const std::shared_ptr<Line> line_;
  std::unique_ptr<Resource> resource_;
  bool begun_ = false;
  Clock::time_point begin_{};
  int64_t first_ = 0, frames_ = 0;
  double paused_ = 0;
};

std::string advice(long status) {
  switch (status) {
    case 401:
    case 403:
      return "; give the server's token in `whip_token_file`";
    case 404:
      return "; look at the address, the server has no such stream";
    case 405:
      return "; look at the address, no WHIP is taken there";
    default:
      return "";
  }
}

struct Answer {
  std::string sdp;
  http_client::Endpoint resource;
};

Expected<Answer> send_offer(const http_client::Endpoint& server, const std::string& offer,
                            const std::stop_token& stop) {
  constexpr size_t kMostBytes = 64 << 10;
  http_client::Post what;
  what.body = offer;
  what.content_type = "application/sdp";
  what.most_bytes = kMostBytes;
  Answer answer;
  http_client::AnswerHead head;
  const auto take = [&](std::string_view bytes) {
    answer.sdp += bytes;
    return Status();
  };
  const Status sent = http_client::post(server, what, take, stop, &head);
  if (sent.code() == ErrorCode::kCancelled) return sent;
  if (!sent.ok()) return Status(sent.code(), sent.message() + advice(head.status));
  answer.resource = server;
  answer.resource.url = head.location;
  answer.resource.connect_s = answer.resource.stall_s = answer.resource.total_s = 1;
  if (!head.is_same_server) answer.resource.key.clear();
  const std::string type = lower_case(head.content_type.substr(0, head.content_type.find(';')));
  if (type == "application/sdp" && !answer.sdp.empty()) return answer;
  Resource told(std::move(answer.resource));
  return io_error("the answer is no application/sdp; look at the address, no WHIP is taken there");
}

struct Network {
  http_client::Endpoint server;
  const std::string& shown;
  const rtc::PeerSettings& settings;
};

Expected<std::unique_ptr<LiveStream>> call(rtc::PeerMaker& maker, const rtc::Call& media, const Network& network,
                                           const std::stop_token& stop) {
  const auto line = std::make_shared<Line>();
  rtc::PeerCalls calls;
  calls.on_connected = [line] { line->connected(); };
  calls.on_end = [line](const std::string& why) { line->end(why); };
  LA_ASSIGN_OR_RETURN(std::unique_ptr<rtc::Peer> peer, maker.call(media, network.settings, std::move(calls)));
  LA_ASSIGN_OR_RETURN(Answer answer, send_offer(network.server, peer->description(), stop));
  auto resource = std::make_unique<Resource>(std::move(answer.resource));
  LA_RETURN_IF_ERROR(peer->take_answer(answer.sdp));
  LA_RETURN_IF_ERROR(line->wait(stop));
  return std::unique_ptr<LiveStream>(
      std::make_unique<WhipStream>(network.shown, std::move(peer), line, std::move(resource)));
}

}  // namespace

WhipServer::WhipServer(const StreamAddress& address, const WhipOptions& options)
    : url_(address.url),
      shown_(address.shown),
      token_(options.token),
      network_{.ice_servers = options.ice_servers, .address = {}} {}

Expected<std::shared_ptr<WhipServer>> WhipServer::create(const StreamAddress& address, const WhipOptions& options) {
  std::shared_ptr<WhipServer> server(new WhipServer(address, options));
  auto named = [&](const Status& status) { return Status(status.code(), server->shown_ + ": " + status.message()); };
  if (const Status good = http_client::check_url(server->url_); !good.ok()) return named(good);
  if (const std::string missing = http_client::missing_client(); !missing.empty()) return named(unsupported(missing));
  if (const auto maker = server->peers_.maker(); !maker.ok()) return named(maker.status());
  return server;
}

Expected<std::unique_ptr<LiveStream>> WhipServer::open(const rtc::Call& media, const std::stop_token& stop) {
  LA_ASSIGN_OR_RETURN(rtc::PeerMaker * maker, peers_.maker());
  http_client::Endpoint server;
  server.url = url_;
  server.key = token_;
  server.connect_s = server.stall_s = server.total_s = kConnectSeconds;
  const Network network{server, shown_, network_};
  auto opened = call(*maker, media, network, stop);
  if (opened.status().code() == ErrorCode::kUnsupported && !media.vp8) {
    rtc::Call other = media;
    other.vp8 = true;
    auto again = call(*maker, other, network, stop);
    if (again.status().code() != ErrorCode::kUnsupported) opened = std::move(again);
  }
  if (opened.ok() || opened.status().code() == ErrorCode::kCancelled) return opened;
  return io_error(shown_ + ": " + opened.status().message());
}

}  // namespace liveavatar::serve
