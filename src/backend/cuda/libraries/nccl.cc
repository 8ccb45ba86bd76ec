// Opened at run time: the program neither links it nor needs it. Communicators do not block (ncclConfig_t::blocking):
// a call begins its work, and ncclCommGetAsyncError() says when it is done or why it failed, so that a wait for a rank
// that is dead can be given up.
#include "backend/cuda/libraries/nccl.h"

#include <dlfcn.h>

#include <cstring>

#include "backend/cuda/libraries/nccl_functions.h"

namespace liveavatar::cuda {
namespace {

template <typename F>
bool find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(::dlsym(library, name));
  return function != nullptr;
}

bool find_all(void* library, NcclFunctions& f) {
  return find(library, "ncclGetVersion", f.version) && find(library, "ncclGetErrorString", f.error_text) &&
         find(library, "ncclGetLastError", f.last_error) && find(library, "ncclGetUniqueId", f.make_id) &&
         find(library, "ncclCommInitRankConfig", f.join) && find(library, "ncclCommGetAsyncError", f.state) &&
         find(library, "ncclCommFinalize", f.finalize) && find(library, "ncclCommDestroy", f.destroy) &&
         find(library, "ncclCommAbort", f.abort) && find(library, "ncclGroupStart", f.begin_group) &&
         find(library, "ncclGroupEnd", f.end_group) && find(library, "ncclSend", f.send) &&
         find(library, "ncclRecv", f.receive);
}

std::string version_text(int version) {  // 22809: 2.28.9
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

// Of a call that may only begin its work.
Status check(const NcclFunctions& f, ncclResult_t result, ncclComm_t communicator) {
  if (result == ncclSuccess || result == ncclInProgress) return {};
  std::string text = f.error_text(result);
  const char* detail = f.last_error(communicator);
  if (detail != nullptr && *detail != '\0') text += std::string(" (") + detail + ")";
  return io_error(text);
}

class NcclCommunicator final : public Communicator {
 public:
  explicit NcclCommunicator(const NcclFunctions& f) : f_(f) {}
  ~NcclCommunicator() override {
    if (handle_ == nullptr) return;
    if (ended_) {
      f_.destroy(handle_);
    } else {
      f_.abort(handle_);
    }
  }

  Status join(const LinkId& id, int rank, int ranks) {
    ncclUniqueId unique;
    static_assert(sizeof unique == sizeof id);
    std::memcpy(&unique, id.data(), sizeof unique);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.maxCTAs = kLinkChannels;  // each has buffers of its own (kLinkPeerBytes)
    return check(f_, f_.join(&handle_, ranks, unique, rank, &config), nullptr);
  }

  Expected<bool> ready() override {
    ncclResult_t state = ncclSuccess;
    LA_RETURN_IF_ERROR(check(f_, f_.state(handle_, &state), handle_));
    LA_RETURN_IF_ERROR(check(f_, state, handle_));
    if (state != ncclSuccess) return false;
    ended_ = ending_;
    return true;
  }

  Status enqueue(std::span<const LinkMessage> sends, std::span<const LinkMessage> receives, void* stream) override {
    const auto on = static_cast<cudaStream_t>(stream);
    LA_RETURN_IF_ERROR(check(f_, f_.begin_group(), handle_));
    Status added;
    for (const LinkMessage& m : sends)
      if (added.ok()) added = check(f_, f_.send(m.data, m.bytes, ncclUint8, m.rank, handle_, on), handle_);
    for (const LinkMessage& m : receives)
      if (added.ok()) added = check(f_, f_.receive(m.data, m.bytes, ncclUint8, m.rank, handle_, on), handle_);
    const Status ended = check(f_, f_.end_group(), handle_);  // also after an error: the group is the thread's
    return added.ok() ? ended : added;
  }

  Status end() override {
    ending_ = true;
    return check(f_, f_.finalize(handle_), handle_);
  }

 private:
  const NcclFunctions& f_;
  ncclComm_t handle_ = nullptr;
  bool ending_ = false, ended_ = false;
};

class Nccl final : public LinkLibrary {
 public:
  explicit Nccl(const NcclFunctions& f) : f_(f) {}

  std::string name() const override {
    int version = 0;
    f_.version(&version);
    return "NCCL " + version_text(version);
  }

  Expected<LinkId> make_id() override {
    ncclUniqueId unique;
    LA_RETURN_IF_ERROR(check(f_, f_.make_id(&unique), nullptr));
    LinkId id;
    std::memcpy(id.data(), &unique, sizeof unique);
    return id;
  }

  Expected<std::unique_ptr<Communicator>> join(const LinkId& id, int rank, int ranks) override {
    auto communicator = std::make_unique<NcclCommunicator>(f_);
    LA_RETURN_IF_ERROR(communicator->join(id, rank, ranks));
    return std::unique_ptr<Communicator>(std::move(communicator));
  }

 private:
  NcclFunctions f_;
};

}  // namespace

std::unique_ptr<LinkLibrary> make_nccl(const NcclFunctions& functions) { return std::make_unique<Nccl>(functions); }

Expected<std::unique_ptr<LinkLibrary>> open_nccl() {
  // It stays loaded to the end of the process, as its threads do.
  void* library = ::dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr)
    return unsupported("NCCL was not found (" + std::string(::dlerror()) +
                       "); install libnccl2, or name its folder in LD_LIBRARY_PATH");
  NcclFunctions functions{};
  if (!find_all(library, functions))
    return unsupported("NCCL is too old: it lacks functions; install version 2.18 or later");
  return make_nccl(functions);
}

}  // namespace liveavatar::cuda
