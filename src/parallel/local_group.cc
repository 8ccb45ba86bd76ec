#include "parallel/local_group.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>

#include "parallel/host_name.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;

// A message on its way: one at a time from one rank to another with one tag.
struct Mailbox {
  enum State : int { kEmpty, kFull, kTaken };  // taken: the receiver copies it
  std::atomic<int> state = kEmpty;
  std::span<const std::byte> data;
};

// What the ranks share. A rank that waits spins for a moment, since within a layer the others are about to answer, and
// sleeps then.
class Shared {
 public:
  Shared(const std::vector<std::string>& of_ranks, const Group::Options& how)
      : devices(of_ranks), host(host_name()), options(how), boxes_(count() * count() * kTagCount) {}

  size_t count() const { return devices.size(); }
  Mailbox& box(int from, int to, Tag tag) {
    const size_t pair = static_cast<size_t>(from) * count() + static_cast<size_t>(to);
    return boxes_[pair * kTagCount + static_cast<size_t>(tag)];
  }

  enum class Wait { kDone, kFailed, kLate };
  // Until the box is in this state.
  Wait wait(const Mailbox& box, Mailbox::State wanted) {
    constexpr int kSpins = 4000;
    for (int i = 0; i < kSpins; ++i) {
      if (box.state.load(std::memory_order_acquire) == wanted) return Wait::kDone;
      if (failed_.load(std::memory_order_relaxed)) return Wait::kFailed;
      __builtin_ia32_pause();
    }
    const auto deadline = Clock::now() + std::chrono::duration<double>(options.wait_s);
    std::unique_lock lock(mutex_);
    const bool there = changed_.wait_until(lock, deadline, [&] { return box.state == wanted || failed_; });
    if (!there) return Wait::kLate;
    return box.state == wanted ? Wait::kDone : Wait::kFailed;
  }

  void set(Mailbox& box, Mailbox::State state) {
    {
      std::lock_guard lock(mutex_);
      box.state.store(state, std::memory_order_release);
    }
    changed_.notify_all();
  }

  // After a failure: nobody will read the message, or nobody reads it any more.
  void withdraw(Mailbox& box) {
    int full = Mailbox::kFull;
    if (box.state.compare_exchange_strong(full, Mailbox::kEmpty)) return;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return box.state == Mailbox::kEmpty; });
  }

  void abort(const Status& why) {
    {
      std::lock_guard lock(mutex_);
      if (failed_) return;
      failure_ = why;
      failed_ = true;
    }
    changed_.notify_all();
    failure_source_.request_stop();
  }

  std::stop_token failure_token() const { return failure_source_.get_token(); }

  Status status() {
    if (!failed_) return {};
    std::lock_guard lock(mutex_);
    return failure_;
  }

  const std::vector<std::string> devices;
  const std::string host;
  const Group::Options options;

 private:
  std::vector<Mailbox> boxes_;
  std::stop_source failure_source_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> failed_ = false;
  Status failure_;
};

class LocalGroup : public Group {
 public:
  LocalGroup(std::shared_ptr<Shared> shared, int rank) : shared_(std::move(shared)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(shared_->count()); }
  Place place(int rank) const override { return {shared_->host, shared_->devices[static_cast<size_t>(rank)]}; }
  const Options& options() const override { return shared_->options; }

  Status start_send(int to, Tag tag, std::span<const std::byte> data) override {
    LA_RETURN_IF_ERROR(finish_send(to, tag));
    LA_RETURN_IF_ERROR(status());
    Mailbox& box = shared_->box(rank_, to, tag);
    box.data = data;
    shared_->set(box, Mailbox::kFull);
    return {};
  }

  Status finish_send(int to, Tag tag) override {
    Mailbox& box = shared_->box(rank_, to, tag);
    Status taken = wait(box, Mailbox::kEmpty, {to, tag, " did not take "});
    if (!taken.ok()) shared_->withdraw(box);
    return taken;
  }

  Status receive(int from, Tag tag, std::span<std::byte> data) override {
    Mailbox& box = shared_->box(from, rank_, tag);
    LA_RETURN_IF_ERROR(status());  // also where a message is there
    LA_RETURN_IF_ERROR(wait(box, Mailbox::kFull, {from, tag, " did not send "}));
    int full = Mailbox::kFull;
    if (!box.state.compare_exchange_strong(full, Mailbox::kTaken)) return status();  // withdrawn
    LA_CHECK(box.data.size() == data.size());
    if (!data.empty()) std::memcpy(data.data(), box.data.data(), data.size());
    shared_->set(box, Mailbox::kEmpty);
    return {};
  }

  Expected<bool> arrived(int from, Tag tag) override {
    LA_RETURN_IF_ERROR(shared_->status());
    return shared_->box(from, rank_, tag).state.load(std::memory_order_acquire) == Mailbox::kFull;
  }

  Expected<bool> taken(int to, Tag tag) override {
    LA_RETURN_IF_ERROR(shared_->status());
    return shared_->box(rank_, to, tag).state.load(std::memory_order_acquire) == Mailbox::kEmpty;
  }

  void abort(const Status& why) override { shared_->abort(why); }
  std::stop_token failure_token() const override { return shared_->failure_token(); }
  Status status() const override { return shared_->status(); }
  double waited_s() const override { return std::chrono::duration<double>(Clock::duration(waited_.load())).count(); }

 private:
  struct Awaited {
    int rank = 0;
    Tag tag = Tag::kJob;
    const char* missed = "";
  };
  Status wait(const Mailbox& box, Mailbox::State state, const Awaited& what) {
    const auto began = Clock::now();
    const Shared::Wait result = shared_->wait(box, state);
    if (counts_as_wait(what.tag)) waited_ += (Clock::now() - began).count();
    if (result == Shared::Wait::kDone) return {};
    if (result == Shared::Wait::kLate) {
      abort(waited_too_long(name_of(what.rank) + what.missed + tag_name(what.tag), shared_->options.wait_s));
    }
    return status();
  }

  std::shared_ptr<Shared> shared_;
  int rank_;
  std::atomic<Clock::rep> waited_ = 0;  // the threads of a rank wait at once
};

}  // namespace

std::vector<std::unique_ptr<Group>> open_local_groups(const std::vector<std::string>& devices,
                                                      const Group::Options& options) {
  auto shared = std::make_shared<Shared>(devices, options);
  std::vector<std::unique_ptr<Group>> groups;
  for (size_t rank = 0; rank < devices.size(); ++rank)
    groups.push_back(std::make_unique<LocalGroup>(shared, static_cast<int>(rank)));
  return groups;
}

}  // namespace liveavatar
