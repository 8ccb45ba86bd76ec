#include "plan/rank_simulation.h"

#include <algorithm>
#include <limits>
#include <optional>

namespace liveavatar {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
// Two events that are this near are one: rounding does not decide what a rank does next.
constexpr double kSameTime = 1e-9;

// The largest shares are the first members'.
double share_of(int64_t all, int members, int member) {
  const int64_t part = all / members + (member < all % members ? 1 : 0);
  return double(part) / double(all);
}

// Of a forward on one member of a stage.
struct Part {
  double compute_s = 0, exchange_s = 0;
};

class PartTimes {
 public:
  PartTimes(const Placement& placement, const StageTimes& times, const Link& link)
      : members_(placement.ulysses_size),
        sampling_(placement.ranks() - placement.first_sampling_rank()),
        times_(times),
        link_(link) {}

  Part part(const ForwardTimes& f, int member) const {
    const double heads = share_of(times_.heads, members_, member), tokens = share_of(times_.tokens, members_, member);
    Part part;
    part.compute_s = std::max(f.whole_s + f.by_tokens_s * tokens + f.by_heads_s * heads,
                              f.reading_s(sampling_) + f.keys_values_s * heads);
    if (members_ == 1) return part;
    // Three of four parts go as own tokens of others' heads, one as own heads of others' tokens.
    const double sent = 0.75 * tokens * (1 - heads) + 0.25 * heads * (1 - tokens);
    part.exchange_s = double(f.exchanges) * link_.latency_s + f.exchange_bytes * sent / link_.bytes_per_s;
    return part;
  }

  // They wait for each other in every layer, so the slowest is all of them.
  double together_s(const ForwardTimes& f) const {
    Part slowest;
    for (int member = 0; member < members_; ++member) {
      const Part p = part(f, member);
      slowest.compute_s = std::max(slowest.compute_s, p.compute_s);
      slowest.exchange_s = std::max(slowest.exchange_s, p.exchange_s);
    }
    return slowest.compute_s + slowest.exchange_s;
  }

 private:
  int members_, sampling_;
  const StageTimes& times_;
  const Link& link_;
};

// The lead gives a block to the other ranks of the first stage before they begin together.
double scatter_s(const Placement& p, const StageTimes& times, const Link& link) {
  const int others = p.ulysses_size - 1;
  return p.vae_rank || others == 0 ? 0 : link.seconds(others * times.block_bytes);
}

// The ranks of a stage, or the lead that only conditions.
struct Worker {
  enum class State { kIdle, kFillsSink, kWorks, kHolds };  // holds: done, and the block before was not yet taken
  bool samples = true;
  double block_s = 0, prefill_s = 0;
  double send_s = 0;  // of its message
  State state = State::kIdle;
  int64_t next = 0;  // block
  int sinks = 0;     // filled so far
  double left_s = 0;
  std::optional<double> message_at;  // sent and not yet taken: when it is there

  bool active() const { return state == State::kFillsSink || state == State::kWorks; }
};

std::vector<Worker> workers_of(const Placement& p, const StageTimes& times, const Link& link) {
  const PartTimes parts(p, times, link);
  std::vector<Worker> workers;
  if (p.vae_rank) {
    Worker lead;
    lead.samples = false;
    lead.block_s = times.condition_s;
    lead.send_s = link.seconds(p.ulysses_size * times.block_bytes);
    workers.push_back(lead);
  }
  for (const StepRange& steps : p.stages) {
    Worker stage;
    stage.block_s = double(steps.count) * parts.together_s(times.step);
    stage.prefill_s = parts.together_s(times.prefill);
    stage.send_s = link.seconds(times.block_bytes);
    workers.push_back(stage);
  }
  if (!p.vae_rank) workers.front().block_s += times.condition_s + scatter_s(p, times, link);
  workers.back().send_s = workers.size() == 1 ? 0 : link.seconds(times.finished_bytes);
  return workers;
}

class Run {
 public:
  Run(const Placement& p, const VideoBlocks& video, const StageTimes& times, const Link& link)
      : video_(video), times_(times), workers_(workers_of(p, times, link)) {
    if (p.ranks() > 1) reference_s_ = link.seconds((p.ranks() - 1) * times.reference_bytes);
  }

  // When each block was decoded.
  std::vector<double> decoded() {
    while (decoded_at_.size() < static_cast<size_t>(video_.blocks)) {
      bool changes = true;
      // In this order: a lead that does one thing at a time decodes before it begins a block, unless others come first.
      while (changes) changes = send() || decode() || begin();
      advance();
    }
    return std::move(decoded_at_);
  }

 private:
  Worker& lead() { return workers_.front(); }
  bool there(const Worker& w) const { return w.message_at && *w.message_at <= now_ + kSameTime; }

  bool send() {
    for (Worker& w : workers_) {
      if (w.state != Worker::State::kHolds || w.message_at) continue;
      w.message_at = now_ + w.send_s;
      w.state = Worker::State::kIdle;
      return true;
    }
    return false;
  }

  bool decode() {
    if (decoding_s_ || (!times_.decode_beside && (lead().active() || others_first()))) return false;
    Worker& last = workers_.back();
    if (there(last)) {
      last.message_at.reset();
      if (taken_ == 0) reference_at_ = now_;
      ++taken_;
      if (times_.online_decode) decoding_s_ = times_.decode_s;
      return true;
    }
    if (times_.online_decode || taken_ < video_.blocks) return false;
    decoding_s_ = times_.decode_s;
    return true;
  }

  // As JobRun::decode_until_ready(): the lead begins a block where the others are about to have no work.
  bool others_first() {
    Worker& w = lead();
    if (w.state != Worker::State::kIdle || w.next == video_.blocks) return false;
    const bool waits_for_sink = w.samples && w.next >= video_.clip_blocks && w.sinks < 2 && reference_at(0) > now_;
    const auto others = static_cast<int64_t>(workers_.size()) - 1;
    return !waits_for_sink && others > 0 && (!w.samples || w.next - taken_ - 1 < others);
  }

  bool begin() {
    for (size_t i = 0; i < workers_.size(); ++i) {
      if (begin(i)) return true;
    }
    return false;
  }

  bool begin(size_t i) {
    Worker& w = workers_[i];
    if (w.state != Worker::State::kIdle || w.next == video_.blocks) return false;
    if (i == 0 && !times_.decode_beside && decoding_s_) return false;
    const int sinks = w.next < video_.clip_blocks ? 1 : 2;
    if (w.samples && w.sinks < sinks) {
      if (sinks == 2 && reference_at(i) > now_ + kSameTime) return false;
      w.state = Worker::State::kFillsSink;
      w.left_s = w.prefill_s;
      return true;
    }
    if (i > 0 && !there(workers_[i - 1])) return false;
    if (i > 0) workers_[i - 1].message_at.reset();
    w.state = Worker::State::kWorks;
    w.left_s = w.block_s;
    return true;
  }

  double reference_at(size_t worker) const { return worker == 0 ? reference_at_ : reference_at_ + reference_s_; }

  // Two tasks on the lead's device have half of it each.
  double rate(size_t worker) const { return worker == 0 && decoding_s_ ? 0.5 : 1; }

  double next_event() const {
    double at = kNever;
    auto later = [&](double t) {
      if (t > now_ + kSameTime) at = std::min(at, t);
    };
    for (size_t i = 0; i < workers_.size(); ++i) {
      const Worker& w = workers_[i];
      if (w.active()) at = std::min(at, now_ + w.left_s / rate(i));
      if (w.message_at) later(*w.message_at);
    }
    if (decoding_s_) at = std::min(at, now_ + *decoding_s_ / decoding_rate());
    if (reference_at_ < kNever) later(reference_at_ + reference_s_);
    return at;
  }
  double decoding_rate() const { return workers_.front().active() ? 0.5 : 1; }

  void advance() {
    const double at = next_event();
    LA_CHECK(at < kNever);  // somebody always has something to do
    const double passed = at - now_, decoding = passed * decoding_rate();
    for (size_t i = 0; i < workers_.size(); ++i) {
      if (workers_[i].active()) workers_[i].left_s -= passed * rate(i);
    }
    now_ = at;
    for (Worker& w : workers_) {
      if (w.active() && w.left_s <= kSameTime) end(w);
    }
    if (!decoding_s_) return;
    *decoding_s_ -= decoding;
    if (*decoding_s_ > kSameTime) return;
    decoding_s_.reset();
    decoded_at_.push_back(now_);
  }

  static void end(Worker& w) {
    if (w.state == Worker::State::kFillsSink) {
      w.state = Worker::State::kIdle;
      ++w.sinks;
      return;
    }
    w.state = Worker::State::kHolds;
    ++w.next;
  }

  const VideoBlocks video_;
  const StageTimes& times_;
  std::vector<Worker> workers_;
  double now_ = 0;
  double reference_at_ = kNever, reference_s_ = 0;  // the lead has block 0; its message
  int64_t taken_ = 0;                               // finished blocks that the lead took
  std::optional<double> decoding_s_;                // left
  std::vector<double> decoded_at_;
};

std::vector<RankLoad> loads_of(const Placement& p, const StageTimes& times, const Link& link) {
  const PartTimes parts(p, times, link);
  std::vector<RankLoad> loads(static_cast<size_t>(p.ranks()));
  for (int rank = p.first_sampling_rank(); rank < p.ranks(); ++rank) {
    const double steps = double(p.stages[p.stage_of(rank)].count);
    const Part part = parts.part(times.step, p.member_of(rank));
    RankLoad& load = loads[static_cast<size_t>(rank)];
    load.sampling_s = steps * part.compute_s;
    load.exchange_s = steps * part.exchange_s;
    if (p.stage_of(rank) == 0) load.exchange_s += scatter_s(p, times, link);
  }
  loads.front().condition_s = times.condition_s;
  loads.front().decode_s = times.decode_s;
  return loads;
}

void add_shares(const Placement& p, const VideoBlocks& video, const PartTimes& parts, const StageTimes& times,
                RankSimulation& s) {
  const double blocks = double(video.blocks), sinks = video.blocks > video.clip_blocks ? 2 : 1;
  for (int rank = 0; rank < p.ranks(); ++rank) {
    RankLoad& load = s.ranks[static_cast<size_t>(rank)];
    const Part sink = p.samples(rank) ? parts.part(times.prefill, p.member_of(rank)) : Part();
    load.exchange_share = (blocks * load.exchange_s + sinks * sink.exchange_s) / s.seconds;
    load.busy_share = (blocks * (load.seconds() - load.exchange_s) + sinks * sink.compute_s) / s.seconds;
    load.waiting_share = std::max(0.0, 1 - load.busy_share - load.exchange_share);
  }
}

RunLimit::By most_of(const RankLoad& load) {
  const std::pair<double, RunLimit::By> parts[] = {{load.sampling_s, RunLimit::By::kSampling},
                                                   {load.exchange_s, RunLimit::By::kExchange},
                                                   {load.condition_s, RunLimit::By::kConditioning},
                                                   {load.decode_s, RunLimit::By::kDecoding}};
  auto less = [](const auto& a, const auto& b) { return a.first < b.first; };
  return std::max_element(std::begin(parts), std::end(parts), less)->second;
}

// The first rank of what `worker` is.
int rank_of_worker(const Placement& p, size_t worker) {
  return worker == 0 ? 0 : p.rank_of(worker - (p.vae_rank ? 1 : 0), 0);
}

RunLimit limit_of(const Placement& p, const std::vector<RankLoad>& loads, const std::vector<Worker>& workers) {
  RunLimit limit;
  double most = 0;
  for (size_t rank = 0; rank < loads.size(); ++rank) {
    if (loads[rank].seconds() <= most) continue;
    most = loads[rank].seconds();
    limit = {most_of(loads[rank]), static_cast<int>(rank), 0};
  }
  for (size_t i = 0; i < workers.size(); ++i) {
    if (workers[i].send_s <= most) continue;
    most = workers[i].send_s;
    const bool last = i + 1 == workers.size();
    limit = {RunLimit::By::kLink, rank_of_worker(p, i), last ? 0 : rank_of_worker(p, i + 1)};
  }
  return limit;
}

// Between two blocks of a longer run, after the sink was renewed and before the pipeline empties.
double steady_frames_per_s(const Placement& p, const VideoBlocks& video, const StageTimes& times, const Link& link) {
  constexpr int64_t kMeasured = 96;
  const int64_t ahead = 32 + 2 * static_cast<int64_t>(p.stages.size());
  const int64_t first = video.clip_blocks + ahead, last = first + kMeasured;
  const std::vector<double> at = Run(p, {last + ahead, video.clip_blocks}, times, link).decoded();
  return double(kMeasured * kBlockFrames) / (at[static_cast<size_t>(last)] - at[static_cast<size_t>(first)]);
}

}  // namespace

std::string RunLimit::text() const {
  if (by == By::kLink) return "the link from rank " + std::to_string(rank) + " to rank " + std::to_string(to_rank);
  constexpr const char* kNames[] = {"sampling", "exchange of heads", "conditioning", "decoding"};
  return "rank " + std::to_string(rank) + ": " + kNames[static_cast<size_t>(by)];
}

RankSimulation simulate_ranks(const Placement& placement, const VideoBlocks& video, const StageTimes& times,
                              const Link& link) {
  LA_CHECK(video.blocks > 0 && video.clip_blocks > 0 && placement.ulysses_size <= times.heads);
  const std::vector<double> decoded = Run(placement, video, times, link).decoded();
  RankSimulation s;
  s.first_frame_s = decoded.front();
  s.seconds = decoded.back();
  s.frames_per_s = double(video.blocks * kBlockFrames) / s.seconds;
  s.steady_frames_per_s = times.online_decode ? steady_frames_per_s(placement, video, times, link) : s.frames_per_s;
  s.ranks = loads_of(placement, times, link);
  add_shares(placement, video, PartTimes(placement, times, link), times, s);
  s.limit = limit_of(placement, s.ranks, workers_of(placement, times, link));
  return s;
}

}  // namespace liveavatar
