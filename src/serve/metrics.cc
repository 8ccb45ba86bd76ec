#include "serve/metrics.h"

#include <cstdio>

namespace liveavatar::serve {
namespace {

constexpr const char* kStageNames[] = {"hear", "sample", "decode", "encode", "send"};
constexpr const char* kFrameKinds[] = {"live", "video"};

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.15g", value);
  return text;
}

void head(std::string& out, const std::string& name, const char* type, const std::string& help) {
  out += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

void line(std::string& out, const std::string& name, const std::string& labels, double value) {
  out += name + (labels.empty() ? "" : "{" + labels + "}") + " " + number(value) + "\n";
}

void counter(std::string& out, const std::string& name, const std::string& help, int64_t value) {
  head(out, name, "counter", help);
  line(out, name, "", double(value));
}

}  // namespace

int64_t Metrics::now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Metrics::add(int64_t& counter, int64_t count) {
  std::lock_guard lock(mutex_);
  counter += count;
}

void Metrics::request(int status) {
  std::lock_guard lock(mutex_);
  ++requests_[status];
}

void Metrics::job(const std::string& state) {
  std::lock_guard lock(mutex_);
  ++jobs_[state];
}

void Metrics::stage(Stage stage, double seconds) {
  std::lock_guard lock(mutex_);
  Histogram& histogram = stages_[static_cast<size_t>(stage)];
  size_t bucket = 0;
  while (bucket < kBounds.size() && seconds > kBounds[bucket]) ++bucket;
  ++histogram.counts[bucket];
  histogram.sum += seconds;
}

void Metrics::frames(Frames kind, int64_t count) {
  std::lock_guard lock(mutex_);
  Rate& rate = frames_[static_cast<size_t>(kind)];
  auto& [second, frames] = rate.seconds[static_cast<size_t>(now()) % rate.seconds.size()];
  if (second != now()) frames = 0;
  second = now();
  frames += count;
  rate.total += count;
}

double Metrics::rate_of(Frames kind) const {
  int64_t sum = 0;
  const int64_t current = now();
  for (const auto& [second, frames] : frames_[static_cast<size_t>(kind)].seconds)
    if (second < current && second >= current - static_cast<int64_t>(kSeconds)) sum += frames;
  return double(sum) / double(kSeconds);
}

double Metrics::frames_per_second(Frames kind) const {
  std::lock_guard lock(mutex_);
  return rate_of(kind);
}

void Metrics::write_stages(std::string& out) const {
  const std::string name = "liveavatar_stage_seconds";
  head(out, name, "histogram",
       "Of live sessions: hear and sample (with hearing) a block, decode, encode and send a chunk of 4 frames");
  for (size_t s = 0; s < stages_.size(); ++s) {
    const std::string stage = std::string("stage=\"") + kStageNames[s] + "\"";
    int64_t count = 0;
    for (size_t b = 0; b < stages_[s].counts.size(); ++b) {
      count += stages_[s].counts[b];
      const std::string bound = b < kBounds.size() ? number(kBounds[b]) : "+Inf";
      line(out, name + "_bucket", stage + ",le=\"" + bound + "\"", double(count));
    }
    line(out, name + "_sum", stage, stages_[s].sum);
    line(out, name + "_count", stage, double(count));
  }
}

std::string Metrics::text(const std::vector<Gauge>& gauges) const {
  std::lock_guard lock(mutex_);
  std::string out;
  head(out, "liveavatar_http_requests_total", "counter", "Requests that were answered, by status");
  for (const auto& [status, count] : requests_)
    line(out, "liveavatar_http_requests_total", "status=\"" + std::to_string(status) + "\"", double(count));
  head(out, "liveavatar_videos_total", "counter", "Jobs that have ended, by state");
  for (const auto& [state, count] : jobs_)
    line(out, "liveavatar_videos_total", "state=\"" + state + "\"", double(count));
  head(out, "liveavatar_frames_total", "counter", "Frames that were made");
  for (size_t k = 0; k < frames_.size(); ++k)
    line(out, "liveavatar_frames_total", std::string("kind=\"") + kFrameKinds[k] + "\"", double(frames_[k].total));
  counter(out, "liveavatar_sessions_total", "Live sessions that were opened", sessions_);
  counter(out, "liveavatar_late_chunks_total", "Chunks whose block began more than 20 ms late", late_chunks_);
  counter(out, "liveavatar_gaps_total", "Times that a speech ran dry before its end", gaps_);
  counter(out, "liveavatar_slow_readers_total", "Sessions that were closed since the client did not read",
          slow_readers_);
  write_stages(out);
  head(out, "liveavatar_frames_per_second", "gauge", "Frames a second, over the last 10 s");
  for (size_t k = 0; k < frames_.size(); ++k)
    line(out, "liveavatar_frames_per_second", std::string("kind=\"") + kFrameKinds[k] + "\"",
         rate_of(static_cast<Frames>(k)));
  std::string last;
  for (const Gauge& gauge : gauges) {
    if (gauge.name != last) head(out, gauge.name, gauge.type, gauge.help);
    line(out, gauge.name, gauge.labels, gauge.value);
    last = gauge.name;
  }
  return out;
}

}  // namespace liveavatar::serve
