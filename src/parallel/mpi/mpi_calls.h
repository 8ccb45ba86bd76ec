// MPI of this process, and messages of any size over it.
#pragma once

#define OMPI_SKIP_MPICXX 1  // the C API alone
#include <mpi.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/status.h"

namespace liveavatar::mpi {

using Clock = std::chrono::steady_clock;

// MPI, begun once a process, and its communicators.
class Mpi {
 public:
  static Expected<std::unique_ptr<Mpi>> begin();

  int rank() const { return rank_; }
  int size() const { return size_; }
  MPI_Comm messages() const { return messages_; }
  MPI_Comm beats() const { return beats_; }

  // Every call of MPI is made in `calls`. After freeze() none is made.
  template <typename Calls>
  void call(const Calls& calls) {
    std::shared_lock lock(mutex_);
    if (!frozen_) calls();
  }
  // From here on no thread calls MPI. Open MPI moves bytes only while it is called: so memory of messages that it
  // cannot give up is left alone.
  void freeze();
  bool frozen() const { return frozen_; }
  // When all ranks do so.
  void finalize();

 private:
  Mpi() = default;

  int rank_ = 0, size_ = 1;
  MPI_Comm messages_ = MPI_COMM_NULL, beats_ = MPI_COMM_NULL;
  std::shared_mutex mutex_;
  std::atomic<bool> frozen_ = false;
};

// "MPI_ERR_TRUNCATE: message truncated"
std::string error_text(int error);

// A message on its way, in pieces that an int can count.
class Transfer {
 public:
  // The bytes stay until done().
  void send(Mpi& mpi, int to, int tag, std::span<const std::byte> data);
  void receive(Mpi& mpi, int from, int tag, std::span<std::byte> data);
  // Whether it has ended, well or with error(), or never began.
  bool done(Mpi& mpi);
  // Of a receive: ends it if no message has come for it yet; done() tells.
  void cancel(Mpi& mpi);

  int error() const { return error_; }
  size_t received() const { return received_; }

 private:
  template <typename Begin>
  void begin(Mpi& mpi, size_t bytes, const Begin& piece);

  std::vector<MPI_Request> pieces_;
  size_t next_ = 0;  // the first piece that has not ended
  size_t received_ = 0;
  int error_ = MPI_SUCCESS;
};

// Between two looks at a Transfer: spins for a moment, since within a layer the other is about to answer, and sleeps
// then, longer and longer, since others compute on these cores.
class Pause {
 public:
  void next();
  bool sleeps() const { return sleeps_; }

 private:
  Clock::time_point began_ = Clock::now();
  bool sleeps_ = false;
};

}  // namespace liveavatar::mpi
