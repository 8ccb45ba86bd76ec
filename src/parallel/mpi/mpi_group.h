// The MPI transport of Group; open_mpi_group() loads it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/group.h"
#include "parallel/mpi/heartbeat.h"
#include "parallel/mpi/process_end.h"
#include "parallel/sibling_watch.h"

namespace liveavatar::mpi {

// What each rank tells the others at the start.
struct Introduction {
  char host[256] = "", device[64] = "";
  ProcessId process;
};

class MpiGroup : public Group {
 public:
  MpiGroup(std::unique_ptr<Mpi> mpi, const std::vector<Introduction>& ranks, const Options& options);

  int rank() const override { return mpi_->rank(); }
  int size() const override { return mpi_->size(); }
  Place place(int rank) const override { return places_[static_cast<size_t>(rank)]; }
  const Options& options() const override { return options_; }

  Status start_send(int to, Tag tag, std::span<const std::byte> data) override;
  Status finish_send(int to, Tag tag) override;
  Status receive(int from, Tag tag, std::span<std::byte> data) override;
  Expected<bool> arrived(int from, Tag tag) override;
  Expected<bool> taken(int to, Tag tag) override;

  void abort(const Status& why) override { verdict_.fail(why); }
  Status status() const override { return verdict_.status(); }
  std::stop_token failure_token() const override { return verdict_.failure_token(); }
  double waited_s() const override { return std::chrono::duration<double>(Clock::duration(waited_.load())).count(); }

  Status roll_call() override;
  bool speaks() override;
  int end(int code) override;

 private:
  struct Outgoing {
    Transfer transfer;
    bool moving = false;
  };
  Outgoing& outgoing(int to, Tag tag) {
    return outgoing_[static_cast<size_t>(to * kTagCount) + static_cast<size_t>(tag)];
  }
  Status wait(Transfer& transfer, const Waits::Wait& what);
  void let_go(Transfer& transfer, int other);
  Status failed_call(int error, const Waits::Wait& what);
  bool wait_for_lead() const;
  int end_after_failure(int code);

  std::unique_ptr<Mpi> mpi_;
  std::vector<Place> places_;
  std::vector<Neighbor> neighbors_;  // by rank
  SiblingWatch::Known siblings_;
  Options options_;
  Verdict verdict_;
  Waits waits_;
  std::vector<Outgoing> outgoing_;
  std::atomic<Clock::rep> waited_ = 0;  // the threads of a rank wait at once
  std::optional<bool> speaks_;
  std::unique_ptr<Heartbeat> heartbeat_;
};

}  // namespace liveavatar::mpi
