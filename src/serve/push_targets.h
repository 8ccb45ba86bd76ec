// Where live sessions may be sent beside their clients: servers that the operator named.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/status.h"
#include "serve/metrics.h"
#include "serve/options.h"
#include "serve/push.h"
#include "serve/whip.h"

namespace liveavatar::serve {

// Any thread.
class PushTargets {
 public:
  // name: of the target. message: without secrets.
  using Log = std::function<void(const std::string& name, const std::string& message)>;
  using Trouble = std::function<void(PushTrouble)>;
  // kInvalidArgument: an address that cannot be, or a name twice. Connects to none.
  // kUnsupported: one of WHIP, and what to install for it.
  static Expected<std::unique_ptr<PushTargets>> create(const std::vector<PushTarget>& targets, Log log,
                                                       const WhipOptions& whip = {});

  ~PushTargets();  // lets streams that were closed end, for a moment

  static constexpr std::nullptr_t kBusy = nullptr;  // an answer of take(): another session has the target
  // kNotFound: there is no such target. on_trouble: PushCalls'.
  Expected<std::shared_ptr<Push>> take(const std::string& name, Trouble on_trouble);
  void add_gauges(std::vector<Gauge>& gauges) const;

 private:
  using Open = decltype(PushCalls::open);
  struct Target {
    Open open;
    std::shared_ptr<PushCounts> totals = std::make_shared<PushCounts>();
    std::shared_ptr<Push> last;
  };
  static Expected<Open> opener_of(const PushTarget& target, const WhipOptions& whip);
  explicit PushTargets(Log log) : log_(std::move(log)) {}

  const Log log_;
  mutable std::mutex mutex_;
  std::map<std::string, Target> targets_;
};

}  // namespace liveavatar::serve
