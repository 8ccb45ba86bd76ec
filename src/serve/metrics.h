// What is counted while the server runs, as Prometheus reads it.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace liveavatar::serve {

// Numbers of this moment, beside what is counted.
struct Gauge {
  std::string name, help, labels;  // labels: "a=\"b\"" or empty
  double value = 0;
  const char* type = "gauge";
};

// Any thread.
class Metrics {
 public:
  enum class Stage { kHear, kSample, kDecode, kEncode, kSend };
  enum class Frames { kLive, kVideo };

  void request(int status);
  void stage(Stage stage, double seconds);
  void frames(Frames kind, int64_t count);
  // Of the live sessions.
  void late_chunk() { add(late_chunks_); }
  void gaps(int64_t count) { add(gaps_, count); }
  void slow_reader() { add(slow_readers_); }
  void session() { add(sessions_); }
  void job(const std::string& state);  // that has ended so

  double frames_per_second(Frames kind) const;  // over the last 10 s
  // The text, with the gauges behind it; those of one name stand together.
  std::string text(const std::vector<Gauge>& gauges) const;

 private:
  static constexpr std::array<double, 11> kBounds{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
  static constexpr size_t kSeconds = 10;
  struct Histogram {
    std::array<int64_t, kBounds.size() + 1> counts{};
    double sum = 0;
  };
  struct Rate {
    std::array<std::pair<int64_t, int64_t>, kSeconds + 1> seconds{};  // second, frames
    int64_t total = 0;
  };
  static int64_t now();
  double rate_of(Frames kind) const;  // with the lock
  void add(int64_t& counter, int64_t count = 1);
  void write_stages(std::string& out) const;

  mutable std::mutex mutex_;
  std::map<int, int64_t> requests_;
  std::map<std::string, int64_t> jobs_;
  std::array<Histogram, 5> stages_;
  std::array<Rate, 2> frames_;
  int64_t late_chunks_ = 0, gaps_ = 0, slow_readers_ = 0, sessions_ = 0;
};

}  // namespace liveavatar::serve
