#include "cli/live_bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "cli/stop_signal.h"
#include "core/json.h"
#include "core/status.h"
#include "core/stop.h"
#include "pipeline/engine.h"

namespace liveavatar::cli {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * double(values.size() - 1) + 0.5)];
}

Expected<std::vector<float>> read_voice(const std::string& path, int rate_hz) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioFile> file, AudioFile::open(path));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<MonoSource> mono, file->mono(rate_hz));
  std::vector<float> all, chunk(1 << 14);
  for (;;) {
    LA_ASSIGN_OR_RETURN(const int64_t got, mono->read(chunk.data(), std::ssize(chunk)));
    if (got == 0) return all;
    all.insert(all.end(), chunk.begin(), chunk.begin() + got);
  }
}

// When what was pushed, and when it came back.
class Watch {
 public:
  void pushed(int64_t speech, int64_t samples) {
    std::lock_guard lock(mutex_);
    pushes_[speech].emplace_back(samples, Clock::now());
  }
  void chunk(const LiveChunk& chunk) {
    std::lock_guard lock(mutex_);
    const Clock::time_point now = Clock::now();
    ++result_.chunks;
    result_.frames += chunk.frames;
    result_.gaps = chunk.gaps;
    result_.paused_seconds = chunk.paused_seconds;
    if (chunk.late_seconds > kLate) ++result_.late_chunks;
    if (chunk.first_frame % kBlockFrames == 0) {
      hear_.push_back(chunk.times.hear_seconds);
      sample_.push_back(chunk.times.sample_seconds);
    }
    decode_.push_back(chunk.times.decode_seconds);
    const LivePosition& at = chunk.position;
    const bool same = at.speech == last_.speech;
    if (at.speech < 0 || (same && at.samples == last_.samples)) return;
    const double latency = seconds_between(time_of(at.speech, same ? last_.samples : 0), now);
    speech_.push_back(latency);
    if (!same) silence_.push_back(latency);
    last_ = at;
  }
  LiveBenchResult result() {
    std::lock_guard lock(mutex_);
    result_.speeches = std::ssize(silence_);
    result_.speech_p50 = quantile(speech_, 0.5);
    result_.speech_p95 = quantile(speech_, 0.95);
    result_.silence_p50 = quantile(silence_, 0.5);
    result_.silence_p95 = quantile(silence_, 0.95);
    result_.hear_ms = 1000 * quantile(hear_, 0.5);
    result_.sample_ms = 1000 * quantile(sample_, 0.5);
    result_.decode_ms = 1000 * double(kBlockLatents) * quantile(decode_, 0.5);
    return result_;
  }

 private:
  static constexpr double kLate = 0.02;  // seconds
  // When the sample behind so many of a speech was pushed.
  Clock::time_point time_of(int64_t speech, int64_t samples) const {
    for (const auto& [until, time] : pushes_.at(speech))
      if (until > samples) return time;
    return Clock::now();
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<std::pair<int64_t, Clock::time_point>>> pushes_;
  LivePosition last_;
  LiveBenchResult result_;
  std::vector<double> speech_, silence_, hear_, sample_, decode_;
};

// 2.7 s of the voice, 1.5 s of nothing, and so on; a packet is pushed when it has been said.
Status talk(LiveSession& session, const LiveBenchOptions& o, const std::vector<float>& voice, Watch& watch) {
  constexpr double kPacket = 0.02, kSpeech = 2.7, kPause = 1.5;
  const auto packet = static_cast<size_t>(kPacket * o.request.sample_rate);
  const auto packets = static_cast<int64_t>(o.seconds / kPacket), spoken = static_cast<int64_t>(kSpeech / kPacket);
  const int64_t turn = spoken + static_cast<int64_t>(kPause / kPacket);
  const Clock::time_point begin = Clock::now();
  size_t at = 0;
  for (int64_t i = 0; i < packets; ++i) {
    std::this_thread::sleep_until(
        begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(kPacket * double(i + 1))));
    LA_RETURN_IF_ERROR(check_stop(StopSignal::token()));
    const int64_t in_turn = i % turn;
    if (in_turn == spoken) LA_RETURN_IF_ERROR(session.end_speech());
    if (in_turn >= spoken) continue;
    if (at + packet > voice.size()) at = 0;
    watch.pushed(i / turn, (in_turn + 1) * static_cast<int64_t>(packet));
    LA_RETURN_IF_ERROR(session.push(std::span(voice).subspan(at, packet)));
    at += packet;
  }
  return {};
}

}  // namespace

Expected<LiveBenchResult> run_live_bench(const LiveBenchOptions& o) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(o.engine, StopSignal::token()));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<LocalEngine> engine, LocalEngine::load(std::move(checkpoint)));
  LA_ASSIGN_OR_RETURN(const std::vector<float> voice, read_voice(o.audio, o.request.sample_rate));
  Watch watch;
  const LiveCallbacks callbacks{[&](const LiveChunk& chunk) {
                                  watch.chunk(chunk);
                                  return true;
                                },
                                {}};
  LA_ASSIGN_OR_RETURN(std::unique_ptr<LiveSession> session, engine->open_live(o.request, callbacks));
  const Clock::time_point begin = Clock::now();
  LA_RETURN_IF_ERROR(talk(*session, o, voice, watch));
  session->close();
  LiveBenchResult result = watch.result();
  result.wall_seconds = seconds_between(begin, Clock::now());
  result.width = session->width();
  result.height = session->height();
  return result;
}

void print_table(const LiveBenchResult& r) {
  std::printf("live, %lldx%lld: %lld frames in %.1f s, %lld speeches\n", static_cast<long long>(r.width),
              static_cast<long long>(r.height), static_cast<long long>(r.frames), r.wall_seconds,
              static_cast<long long>(r.speeches));
  std::printf("%-22s p50 %.3f s, p95 %.3f s\n", "speech to frame", r.speech_p50, r.speech_p95);
  std::printf("%-22s p50 %.3f s, p95 %.3f s\n", "silence to speech", r.silence_p50, r.silence_p95);
  std::printf("%-22s %lld of %lld chunks; %.2f s paused; %lld gaps\n", "late", static_cast<long long>(r.late_chunks),
              static_cast<long long>(r.chunks), r.paused_seconds, static_cast<long long>(r.gaps));
  std::printf("%-22s hear %.1f, hear and sample %.1f, decode %.1f of 480\n", "ms a block", r.hear_ms, r.sample_ms,
              r.decode_ms);
}

std::string to_json(const LiveBenchResult& r) {
  nlohmann::ordered_json json;
  json["live"] = {{"width", r.width},
                  {"height", r.height},
                  {"wall_s", r.wall_seconds},
                  {"frames", r.frames},
                  {"speeches", r.speeches},
                  {"speech_to_frame_s", {{"p50", r.speech_p50}, {"p95", r.speech_p95}}},
                  {"silence_to_speech_s", {{"p50", r.silence_p50}, {"p95", r.silence_p95}}},
                  {"late_chunks", r.late_chunks},
                  {"chunks", r.chunks},
                  {"paused_s", r.paused_seconds},
                  {"gaps", r.gaps},
                  {"ms_a_block", {{"hear", r.hear_ms}, {"sample", r.sample_ms}, {"decode", r.decode_ms}}}};
  return json_text(json);
}

}  // namespace liveavatar::cli
