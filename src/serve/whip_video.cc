#include "serve/whip_video.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "media/audio.h"
#include "media/live_stream.h"
#include "media/mono_reader.h"
#include "media/pacer.h"
#include "media/video_writer.h"

namespace liveavatar::serve {
namespace {

constexpr int kFps = 25, kTries = 4;  // of a call that was lost
constexpr int64_t kFrameSamples = rtc::kSampleRate / kFps, kLasting = 10 * kFps;

void pause(double seconds, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait_for(lock, stop, std::chrono::duration<double>(seconds), [] { return false; });
}

class WhipVideo final : public VideoWriter {
 public:
  WhipVideo(std::shared_ptr<WhipServer> server, const rtc::Call& media, const std::stop_token& stop)
      : server_(std::move(server)), media_(media), stop_(stop), pacer_(kFps, stop) {}

  Status begin(std::unique_ptr<AudioStream> audio) {
    if (audio) {
      LA_ASSIGN_OR_RETURN(voice_, mono_of(std::move(audio), rtc::kSampleRate));
    }
    auto opened = server_->open(media_, stop_);
    if (!opened.ok()) return reopen(opened.status());
    stream_ = *std::move(opened);
    return {};
  }

  std::string encoder() const override { return "WebRTC"; }

  Status write_frame(const uint8_t* rgb) override {
    pacer_.wait_for(frames_);
    LA_RETURN_IF_ERROR(read_sound());
    Status sent = send(rgb);
    while (!sent.ok()) {
      LA_RETURN_IF_ERROR(reopen(sent));
      pacer_.restart(frames_);
      sent = send(rgb);
    }
    ++frames_;
    if (frames_ - reopened_at_ > kLasting) reopened_ = 0;
    return {};
  }

  Status finish() override {
    if (!stream_) return {};
    const Status ended = stream_->finish();
    stream_.reset();
    return ended.ok() || stop_.stop_requested() ? Status() : lost(ended);
  }

 private:
  Status send(const uint8_t* rgb) {
    return stream_->write(
        {.first_frame = frames_, .frames = 1, .rgb = rgb, .audio = sound_.data(), .samples = kFrameSamples});
  }

  // One frame's; silence behind the voice's end.
  Status read_sound() {
    std::vector<float> samples(kFrameSamples);
    for (int64_t have = 0; voice_ && have < kFrameSamples;) {
      LA_ASSIGN_OR_RETURN(const int64_t came, voice_->read(samples.data() + have, kFrameSamples - have));
      if (came == 0) voice_.reset();
      have += came;
    }
    constexpr float kFull = 32767;
    std::transform(samples.begin(), samples.end(), sound_.begin(), [](float sample) {
      return static_cast<int16_t>(std::lround(std::clamp(sample, -1.0f, 1.0f) * kFull));
    });
    return {};
  }

  Status lost(const Status& why) const {
    char so_far[32];
    std::snprintf(so_far, sizeof(so_far), "%.1f s", double(frames_) / kFps);
    return io_error(why.message() + " after " + so_far + " of the video; look at the server, then run the job again");
  }

  // The first try at once, the others after 1, 2, 4, ... seconds.
  Status reopen(Status why) {
    stream_.reset();
    double pause_s = 0;
    while (reopened_ < kTries) {
      if (stop_.stop_requested()) return cancelled("stopped on request");
      ++reopened_;
      if (pause_s > 0) pause(pause_s, stop_);
      pause_s = pause_s == 0 ? 1 : 2 * pause_s;
      auto opened = server_->open(media_, stop_);
      if (opened.status().code() == ErrorCode::kCancelled) return opened.status();
      if (!opened.ok()) {
        why = opened.status();
        continue;
      }
      stream_ = *std::move(opened);
      reopened_at_ = frames_;
      return {};
    }
    return lost(why);
  }

  const std::shared_ptr<WhipServer> server_;
  const rtc::Call media_;
  const std::stop_token stop_;
  std::unique_ptr<MonoSource> voice_;  // null: there is no more of it
  std::unique_ptr<LiveStream> stream_;
  Pacer pacer_;
  std::vector<int16_t> sound_ = std::vector<int16_t>(kFrameSamples);  // of the frame
  int64_t frames_ = 0, reopened_at_ = 0;
  int reopened_ = 0;  // since it last lasted
};

}  // namespace

Status try_whip(WhipServer& server, const std::stop_token& stop) {
  constexpr int64_t kSide = 64;
  return server.open({.width = kSide, .height = kSide}, stop).status();
}

Expected<std::unique_ptr<VideoWriter>> open_whip_video(std::shared_ptr<WhipServer> server, int64_t width,
                                                       int64_t height, std::unique_ptr<AudioStream> audio,
                                                       const std::stop_token& stop) {
  const rtc::Call media{.width = width, .height = height};
  auto video = std::make_unique<WhipVideo>(std::move(server), media, stop);
  LA_RETURN_IF_ERROR(video->begin(std::move(audio)));
  return std::unique_ptr<VideoWriter>(std::move(video));
}

}  // namespace liveavatar::serve
