#include "stand_in_nccl.h"

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backend/cuda/emulate/stream.h"

namespace liveavatar::cuda {
namespace {

// Bytes from one rank to another: whoever gets there first, of the two streams, copies them, behind what either stream
// had to do before.
struct Transfer {
  const void* from = nullptr;
  void* to = nullptr;
  size_t bytes = 0;
  emulate::Point sender, receiver;
  bool done = false;

  bool matched() const { return from != nullptr && to != nullptr; }
  void run() {  // with the device's lock
    if (done) return;
    emulate::run_until(sender);
    emulate::run_until(receiver);
    if (done) return;
    done = true;
    std::vector<std::byte> on_the_way(bytes);
    emulate::copy_to_host(on_the_way.data(), from, bytes);
    emulate::copy_to_device(to, on_the_way.data(), bytes);
  }
};

// The ranks that join each other.
struct World {
  int joined = 0;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Transfer>>> waiting;  // from, to: one end alone is there
};

std::mutex& world_lock() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace
}  // namespace liveavatar::cuda

struct ncclComm {
  std::shared_ptr<liveavatar::cuda::World> world;
  int rank = 0, ranks = 0;
  std::vector<std::shared_ptr<liveavatar::cuda::Transfer>> begun;  // of a group that is not on the stream yet
  liveavatar::cuda::emulate::Stream* stream = nullptr;
  bool finalizing = false;
};

namespace liveavatar::cuda {
namespace {

std::map<std::string, std::shared_ptr<World>>& worlds() {
  static std::map<std::string, std::shared_ptr<World>> all;
  return all;
}

struct Call {
  bool sends;
  void* data;
  size_t bytes;
  int peer;
  ncclComm_t communicator;
  emulate::Stream* stream;
};
thread_local std::vector<Call> group;

ncclResult_t get_version(int* version) {
  *version = 22809;
  return ncclSuccess;
}
const char* get_error_string(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited" : "invalid usage";
}
const char* get_last_error(ncclComm_t) { return "stand-in"; }

ncclResult_t get_unique_id(ncclUniqueId* id) {
  static std::atomic<int> next = 0;
  std::memset(id, 0, sizeof *id);
  std::snprintf(id->internal, sizeof id->internal, "world %d", next++);
  return ncclSuccess;
}

ncclResult_t init_rank(ncclComm_t* communicator, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidArgument;
  stand_in_nccl().channels = config->maxCTAs;
  if (rank == stand_in_nccl().refuses_rank) return ncclInvalidUsage;
  const std::lock_guard lock(world_lock());
  std::shared_ptr<World>& world = worlds()[id.internal];
  if (world == nullptr) world = std::make_shared<World>();
  ++world->joined;
  *communicator = new ncclComm{world, rank, ranks, {}, nullptr, false};
  return ncclInProgress;
}

// The end that is not there yet, if the other one is; else a new transfer.
std::shared_ptr<Transfer> transfer_of(const Call& call) {
  const int own = call.communicator->rank;
  const std::pair<int, int> way = call.sends ? std::pair(own, call.peer) : std::pair(call.peer, own);
  std::deque<std::shared_ptr<Transfer>>& waiting = call.communicator->world->waiting[way];
  const bool answers = !waiting.empty() && (call.sends ? waiting.front()->from : waiting.front()->to) == nullptr;
  auto transfer = answers ? waiting.front() : std::make_shared<Transfer>();
  if (answers) {
    waiting.pop_front();
  } else {
    waiting.push_back(transfer);
  }
  return transfer;
}

void post(const Call& call) {
  const std::shared_ptr<Transfer> transfer = transfer_of(call);
  if (transfer->bytes != 0 && transfer->bytes != call.bytes) std::abort();  // a card would hang
  transfer->bytes = call.bytes;
  if (call.sends) {
    transfer->from = call.data;
    transfer->sender = call.stream->now();
  } else {
    transfer->to = call.data;
    transfer->receiver = call.stream->now();
  }
  call.communicator->begun.push_back(transfer);
  call.communicator->stream = call.stream;
}

ncclResult_t group_start() { return ncclSuccess; }
ncclResult_t add(const Call& call) {
  if (call.data == nullptr || !call.communicator->begun.empty()) return ncclInvalidUsage;
  group.push_back(call);
  return ncclSuccess;
}
ncclResult_t send(const void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclUint8) return ncclInvalidArgument;
  return add({true, const_cast<void*>(data), count, peer, comm, reinterpret_cast<emulate::Stream*>(stream)});
}
ncclResult_t receive(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclUint8) return ncclInvalidArgument;
  return add({false, data, count, peer, comm, reinterpret_cast<emulate::Stream*>(stream)});
}
ncclResult_t group_end() {
  const std::lock_guard lock(world_lock());
  for (const Call& call : group) post(call);
  group.clear();
  ++stand_in_nccl().groups;
  return ncclInProgress;
}

ncclResult_t get_async_error(ncclComm_t communicator, ncclResult_t* state) {
  StandInNccl& all = stand_in_nccl();
  const std::lock_guard lock(world_lock());
  *state = ncclInProgress;
  if (all.fails_after >= 0 && all.groups > all.fails_after) {
    *state = ncclRemoteError;
    return ncclSuccess;
  }
  if (communicator->world->joined < communicator->ranks) return ncclSuccess;
  for (const std::shared_ptr<Transfer>& transfer : communicator->begun)
    if (!transfer->matched()) return ncclSuccess;
  if (!communicator->begun.empty())
    communicator->stream->add([transfers = std::move(communicator->begun)] {
      for (const std::shared_ptr<Transfer>& transfer : transfers) transfer->run();
    });
  communicator->begun.clear();
  *state = ncclSuccess;
  return ncclSuccess;
}

ncclResult_t finalize(ncclComm_t communicator) {
  communicator->finalizing = true;
  return ncclInProgress;
}
ncclResult_t destroy(ncclComm_t communicator) {
  const bool right = communicator->finalizing;
  ++stand_in_nccl().ended;
  delete communicator;
  return right ? ncclSuccess : ncclInvalidUsage;
}
ncclResult_t abort(ncclComm_t communicator) {
  ++stand_in_nccl().died;
  delete communicator;
  return ncclSuccess;
}

}  // namespace

StandInNccl& stand_in_nccl() {
  static StandInNccl all;
  return all;
}

NcclFunctions stand_in_functions() {
  return {get_version, get_error_string, get_last_error, get_unique_id, init_rank, get_async_error, finalize, destroy,
          abort,       group_start,      group_end,      send,          receive};
}

}  // namespace liveavatar::cuda
