#include "backend/cuda/device_link.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "backend/cuda/handles.h"
#include "core/clock.h"

namespace liveavatar::cuda {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kJoinSeconds = 60;  // for ranks that have all said that they come
constexpr double kEndSeconds = 2;
constexpr std::chrono::milliseconds kWatchPeriod{20};

// "rank 1 (node7, cuda:1)", or "one of rank 0 (...), rank 2 (...)"
std::string others_of(const Group& stage) {
  std::string names;
  for (int rank = 0; rank < stage.size(); ++rank)
    if (rank != stage.rank()) names += (names.empty() ? "" : ", ") + stage.name_of(rank);
  return stage.size() > 2 ? "one of " + names : names;
}

// From joining to the knowledge that all ranks are in, or that one cannot be. Each rank sends its own result to each
// other and hears all of theirs, so that nothing is left in the group.
class Entrance {
 public:
  Entrance(Group& stage, Communicator* communicator, std::string why)
      : stage_(stage), communicator_(communicator), why_(std::move(why)), heard_(static_cast<size_t>(stage.size())) {}
  ~Entrance() {
    for_each_other([&](int to) { static_cast<void>(stage_.finish_send(to, Tag::kLink)); });
  }
  Entrance(const Entrance&) = delete;
  Entrance& operator=(const Entrance&) = delete;

  // -> why there is no link; empty: all are in.
  Expected<std::string> wait() {
    while (!told_ || others_heard_ + 1 < stage_.size()) {
      LA_RETURN_IF_ERROR(stage_.status());
      if (!told_) LA_RETURN_IF_ERROR(look_at_own());
      for (int from = 0; from < stage_.size(); ++from)
        if (from != stage_.rank()) LA_RETURN_IF_ERROR(hear(from));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return why_;
  }

 private:
  template <typename Body>
  void for_each_other(const Body& body) {
    for (int rank = 0; rank < stage_.size(); ++rank)
      if (rank != stage_.rank()) body(rank);
  }

  Status look_at_own() {
    bool ready = false;
    if (why_.empty()) {
      const Expected<bool> asked = communicator_->ready();
      if (asked.ok()) ready = *asked;
      if (!asked.ok()) why_ = stage_.name_of(stage_.rank()) + ": " + asked.status().message();
      if (asked.ok() && !ready && seconds_since(began_) > kJoinSeconds)
        why_ = others_of(stage_) + " could not be reached in " + std::to_string(kJoinSeconds) + " s";
    }
    if (!ready && why_.empty()) return {};
    own_ = LinkText(why_);
    told_ = true;
    for (int to = 0; to < stage_.size(); ++to)
      if (to != stage_.rank()) LA_RETURN_IF_ERROR(stage_.start_send(to, Tag::kLink, own_.bytes()));
    return {};
  }

  Status hear(int from) {
    if (heard_[static_cast<size_t>(from)]) return {};
    LA_ASSIGN_OR_RETURN(const bool arrived, stage_.arrived(from, Tag::kLink));
    if (!arrived) return {};
    LinkText text;
    LA_RETURN_IF_ERROR(stage_.receive(from, Tag::kLink, text.bytes()));
    heard_[static_cast<size_t>(from)] = true;
    ++others_heard_;
    if (why_.empty()) why_ = text.text();
    return {};
  }

  Group& stage_;
  Communicator* communicator_;  // null: it could not begin to join
  std::string why_;
  std::vector<bool> heard_;
  int others_heard_ = 0;
  bool told_ = false;
  LinkText own_;
  Clock::time_point began_ = Clock::now();
};

// A card that waits for a rank which is gone would wait forever, and with it every thread that waits for the card: a
// thread of the link watches the group and the communicator, and ends both when one fails.
class CudaLink final : public DeviceLink {
 public:
  struct Parts {
    CudaDevice& device;
    void* stream;
    Group& stage;
    std::unique_ptr<LinkLibrary> library;
    std::unique_ptr<Communicator> communicator;
    EventHandle mark, end;
  };
  explicit CudaLink(Parts parts)
      : parts_(std::move(parts)),
        others_(others_of(parts_.stage)),
        watcher_([this](const std::stop_token& stop) { watch(stop); }) {}
  ~CudaLink() override;

  Status exchange(std::span<const DeviceMessage> sends, std::span<const DeviceMessage> receives) override;
  Status finish() override;

 private:
  Status begin(std::span<const LinkMessage> sends, std::span<const LinkMessage> receives);
  Status await_ready(double limit_s);
  void watch(const std::stop_token& stop);
  Status look();
  void fail(const Status& why);
  Status late(double seconds) const {
    return waited_too_long(others_ + " took no part in an exchange of a layer's tokens", seconds);
  }
  // The library's error, with the ranks that it may be of.
  Status named(const Status& status) const {
    if (status.ok()) return status;
    return {status.code(), parts_.stage.name_of(parts_.stage.rank()) + ": " + parts_.library->name() +
                               ", messages with " + others_ + ": " + status.message()};
  }

  Parts parts_;
  std::string others_;
  std::mutex mutex_;                              // of the communicator, which is null after a failure, and the mark
  std::optional<Clock::time_point> marked_ = {};  // when an exchange was enqueued that is not known to be done
  std::mutex sleep_mutex_;
  std::condition_variable_any sleep_;
  std::jthread watcher_;
};

std::vector<LinkMessage> messages_of(std::span<const DeviceMessage> messages) {
  std::vector<LinkMessage> all;
  for (const DeviceMessage& m : messages)
    if (m.tensor.bytes() > 0) all.push_back({m.rank, m.tensor.address(), m.tensor.bytes()});
  return all;
}

CudaLink::~CudaLink() {
  const bool whole = finish().ok();
  watcher_.request_stop();
  watcher_.join();
  // Else the communicator's death is enough.
  if (whole && parts_.communicator != nullptr && parts_.communicator->end().ok())
    static_cast<void>(await_ready(kEndSeconds));
}

Status CudaLink::exchange(std::span<const DeviceMessage> sends, std::span<const DeviceMessage> receives) {
  LA_RETURN_IF_ERROR(parts_.device.status());
  Status begun;
  {
    const std::lock_guard lock(mutex_);
    if (parts_.communicator == nullptr) return parts_.stage.status();
    begun = begin(messages_of(sends), messages_of(receives));
  }
  if (!begun.ok()) fail(begun);
  return begun.ok() ? begun : parts_.stage.status();
}

Status CudaLink::begin(std::span<const LinkMessage> sends, std::span<const LinkMessage> receives) {
  LA_RETURN_IF_ERROR(named(parts_.communicator->enqueue(sends, receives, parts_.stream)));
  LA_RETURN_IF_ERROR(await_ready(parts_.stage.options().wait_s));
  if (marked_) return {};
  marked_ = Clock::now();
  parts_.device.check(parts_.device.runtime().record(parts_.mark.get(), parts_.stream), "recording an event");
  return parts_.device.status();
}

Status CudaLink::await_ready(double limit_s) {
  constexpr int kSpins = 1000;
  const auto began = Clock::now();
  for (int turn = 0;; ++turn) {
    const Expected<bool> ready = parts_.communicator->ready();
    LA_RETURN_IF_ERROR(named(ready.status()));
    if (*ready) return {};
    LA_RETURN_IF_ERROR(parts_.stage.status());
    if (seconds_since(began) > limit_s) return late(limit_s);
    if (turn < kSpins) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
}

Status CudaLink::finish() {
  CudaDevice& device = parts_.device;
  if (device.check(device.runtime().record(parts_.end.get(), parts_.stream), "recording an event"))
    device.check(device.runtime().wait(parts_.end.get()), "an exchange");
  LA_RETURN_IF_ERROR(device.status());
  return parts_.stage.status();
}

void CudaLink::watch(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (const Status found = look(); !found.ok()) {
      fail(found);
      return;
    }
    std::unique_lock lock(sleep_mutex_);
    sleep_.wait_for(lock, stop, kWatchPeriod, [] { return false; });
  }
}

Status CudaLink::look() {
  LA_RETURN_IF_ERROR(parts_.stage.status());
  const std::lock_guard lock(mutex_);
  if (parts_.communicator == nullptr) return {};
  LA_RETURN_IF_ERROR(named(parts_.communicator->ready().status()));
  if (marked_ && parts_.device.runtime().is_done(parts_.mark.get())) marked_.reset();
  const double limit_s = parts_.stage.options().wait_s;
  return marked_ && seconds_since(*marked_) > limit_s ? late(limit_s) : Status();
}

// First the group, so that who is woken by the communicator's death knows of the failure.
void CudaLink::fail(const Status& why) {
  parts_.stage.abort(why);
  const std::lock_guard lock(mutex_);
  parts_.communicator.reset();
}

Expected<EventHandle> make_event(CudaDevice& device) {
  void* event = nullptr;
  if (!device.check(device.runtime().create_event(&event), "creating an event")) return device.status();
  return EventHandle(device.runtime(), event);
}

// What this rank needs before it can join others.
struct Ticket {
  std::unique_ptr<LinkLibrary> library;
  LinkId id{};  // of the first rank
  LinkOffer offer;
};

Ticket take_ticket(CudaDevice& device, const Group& stage) {
  Ticket ticket;
  Expected<std::unique_ptr<LinkLibrary>> library = device.runtime().open_link_library();
  if (!library.ok()) {
    ticket.offer.reason = library.status().message();
    return ticket;
  }
  ticket.library = *std::move(library);
  if (stage.rank() == 0) {
    const Expected<LinkId> id = ticket.library->make_id();
    if (!id.ok()) {
      ticket.offer.reason = ticket.library->name() + ": " + id.status().message();
      return ticket;
    }
    ticket.id = *id;
  }
  ticket.offer.device = stage.place(stage.rank()).host + " " + device.runtime().card().slot;
  return ticket;
}

// With all ranks, or with none: then the text says why.
Expected<std::unique_ptr<Communicator>> join(CudaDevice& device, Group& stage, const Ticket& ticket,
                                             std::string& why_not) {
  device.check(device.runtime().make_current(), "choosing the card");
  LA_RETURN_IF_ERROR(device.status());
  Expected<std::unique_ptr<Communicator>> joined = ticket.library->join(ticket.id, stage.rank(), stage.size());
  if (!joined.ok()) why_not = stage.name_of(stage.rank()) + ": " + joined.status().message();
  std::unique_ptr<Communicator> communicator = joined.ok() ? *std::move(joined) : nullptr;
  LA_ASSIGN_OR_RETURN(why_not, Entrance(stage, communicator.get(), why_not).wait());
  return communicator;
}

}  // namespace

Expected<LinkChoice> open_device_link(CudaDevice& device, void* stream, Group& stage) {
  Ticket ticket = take_ticket(device, stage);
  LA_ASSIGN_OR_RETURN(std::string why_not, agree_on_link(stage, ticket.offer));
  if (!why_not.empty()) return LinkChoice{nullptr, std::move(why_not)};
  LA_RETURN_IF_ERROR(stage.broadcast(0, Tag::kLink, ticket.id));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> communicator, join(device, stage, ticket, why_not));
  std::string name = ticket.library->name();
  if (!why_not.empty()) return LinkChoice{nullptr, name + ": " + why_not};
  LA_ASSIGN_OR_RETURN(EventHandle mark, make_event(device));
  LA_ASSIGN_OR_RETURN(EventHandle end, make_event(device));
  auto link = std::make_unique<CudaLink>(CudaLink::Parts{device, stream, stage, std::move(ticket.library),
                                                         std::move(communicator), std::move(mark), std::move(end)});
  return LinkChoice{std::move(link), std::move(name)};
}

}  // namespace liveavatar::cuda
