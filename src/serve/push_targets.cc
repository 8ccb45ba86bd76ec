#include "serve/push_targets.h"

#include <chrono>
#include <thread>
#include <utility>

#include "media/connection.h"
#include "media/live_stream.h"
#include "media/stream_address.h"

namespace liveavatar::serve {
namespace {

constexpr const char* kAddresses = "rtmp://HOST/APP/KEY, srt://HOST:PORT or whip+https://HOST/PATH";

Expected<std::unique_ptr<LiveStream>> open_stream(const std::shared_ptr<Connector>& connector, const LiveChunk& like,
                                                  const std::stop_token& stop) {
  LiveStreamOptions options;
  options.width = like.width;
  options.height = like.height;
  options.sample_rate = like.sample_rate;
  StreamWaits waits;
  waits.write_s = 5;
  return LiveStream::open(connector, options, waits, stop);
}

std::string where_of(const PushTarget& target) { return "`push` " + target.name + ": "; }

Expected<StreamAddress> parse_target(const PushTarget& target) {
  const std::string where = where_of(target);
  if (!is_stream(target.url)) return invalid_argument(where + "is no address; write " + kAddresses);
  auto address = parse_stream_address(target.url);
  if (!address.ok()) return Status(address.status().code(), where + address.status().message());
  if (address->kind == StreamAddress::Kind::kStandardOutput)
    return invalid_argument(where + "is standard output; write " + kAddresses);
  return address;
}

}  // namespace

Expected<PushTargets::Open> PushTargets::opener_of(const PushTarget& target, const WhipOptions& whip) {
  LA_ASSIGN_OR_RETURN(StreamAddress address, parse_target(target));
  if (address.kind != StreamAddress::Kind::kWhip) {
    return Open([connector = std::make_shared<Connector>(std::move(address))](
                    const LiveChunk& like, const std::stop_token& stop) { return open_stream(connector, like, stop); });
  }
  auto server = WhipServer::create(address, whip);
  if (!server.ok()) return Status(server.status().code(), where_of(target) + server.status().message());
  return Open([server = *server](const LiveChunk& like, const std::stop_token& stop) {
    return server->open({.width = like.width, .height = like.height, .sample_rate = like.sample_rate}, stop);
  });
}

Expected<std::unique_ptr<PushTargets>> PushTargets::create(const std::vector<PushTarget>& targets, Log log,
                                                           const WhipOptions& whip) {
  std::unique_ptr<PushTargets> all(new PushTargets(std::move(log)));
  for (const PushTarget& target : targets) {
    LA_ASSIGN_OR_RETURN(Open open, opener_of(target, whip));
    const bool is_new = all->targets_.try_emplace(target.name).second;
    if (!is_new) return invalid_argument("`push` " + target.name + ": is given twice; choose another name");
    all->targets_[target.name].open = std::move(open);
  }
  return all;
}

PushTargets::~PushTargets() {
  constexpr std::chrono::milliseconds kMoment(1500), kStep(10);
  const auto latest = std::chrono::steady_clock::now() + kMoment;
  for (const auto& [name, target] : targets_)
    while (target.last && target.last->is_closed() && !target.last->has_ended() &&
           std::chrono::steady_clock::now() < latest)
      std::this_thread::sleep_for(kStep);
}

Expected<std::shared_ptr<Push>> PushTargets::take(const std::string& name, Trouble on_trouble) {
  std::lock_guard lock(mutex_);
  const auto found = targets_.find(name);
  if (found == targets_.end()) return not_found("start: there is no target of that name; ask who runs the server");
  Target& target = found->second;
  if (target.last && !target.last->is_closed()) return std::shared_ptr<Push>(kBusy);
  PushCalls calls;
  calls.open = target.open;
  calls.on_trouble = [log = log_, name, on_trouble = std::move(on_trouble)](PushTrouble trouble, const Status& why) {
    if (log) log(name, why.message());
    on_trouble(trouble);
  };
  target.last = std::make_shared<Push>(std::move(calls), target.totals, std::move(target.last));
  return target.last;
}

void PushTargets::add_gauges(std::vector<Gauge>& gauges) const {
  struct Number {
    const char *name, *help;
    double (*of)(const PushCounts&);
    const char* type = "counter";
  };
  constexpr Number kNumbers[] = {{"liveavatar_push_frames_total", "Frames that went to the target",
                                  [](const PushCounts& c) { return double(c.sent_frames); }},
                                 {"liveavatar_push_dropped_frames_total", "Frames that the target did not take",
                                  [](const PushCounts& c) { return double(c.dropped_frames); }},
                                 {"liveavatar_push_connections_total", "Connections to the target that were opened",
                                  [](const PushCounts& c) { return double(c.connections); }},
                                 {"liveavatar_push_failures_total", "Connections that were lost or not opened",
                                  [](const PushCounts& c) { return double(c.failures); }},
                                 {"liveavatar_push_connected", "1 while a session is sent to the target",
                                  [](const PushCounts& c) { return c.connected ? 1.0 : 0.0; }, "gauge"}};
  std::lock_guard lock(mutex_);
  for (const Number& number : kNumbers)
    for (const auto& [name, target] : targets_)
      gauges.push_back({number.name, number.help, "target=\"" + name + "\"", number.of(*target.totals), number.type});
}

}  // namespace liveavatar::serve
