#include "backend/cuda/device.h"

#include "core/size_text.h"

namespace liveavatar::cuda {

size_t CudaDevice::taken_bytes(size_t bytes) const {
  constexpr size_t kGranuleBytes = size_t{2} << 20;
  return bytes < kGranuleBytes / 2 ? round_up(bytes, kPageBytes) : round_up(bytes, kGranuleBytes);
}

Expected<std::byte*> CudaDevice::allocate(size_t bytes) {
  if (failed()) return status();
  void* memory = nullptr;
  const int error = runtime_->allocate(&memory, bytes);
  if (error == 0) return static_cast<std::byte*>(memory);
  if (error != Runtime::kOutOfMemory) {
    check(error, "allocating memory");
    return status();
  }
  return out_of_memory(device().str() + ": " + mib(bytes) + " are wanted, " + mib(runtime_->free_bytes()) +
                       " are free on this device; lower the budget or stop other programs that use it");
}

void CudaDevice::free(std::byte* memory, size_t) { check(runtime_->release(memory), "freeing memory"); }

Status CudaDevice::write(std::byte* to, const void* host, size_t bytes) {
  check(runtime_->write(to, host, bytes), "a copy to the device");
  return status();
}

Status CudaDevice::read(const std::byte* from, void* host, size_t bytes) {
  check(runtime_->read(from, host, bytes), "a copy from the device");
  return status();
}

Expected<std::unique_ptr<CopyQueue>> CudaDevice::open_copies() {
  void* stream = nullptr;
  if (!check(runtime_->create_stream(&stream), "creating a stream")) return status();
  return std::unique_ptr<CopyQueue>(new StreamCopies(*this, StreamHandle(*runtime_, stream)));
}

bool CudaDevice::check(int error, const std::string& what) {
  const std::lock_guard lock(mutex_);
  if (error != 0 && status_.ok()) status_ = io_error(device().str() + ": " + what + ": " + runtime_->error_text(error));
  return status_.ok();
}

void CudaDevice::fail(const Status& why) {
  const std::lock_guard lock(mutex_);
  if (status_.ok()) status_ = io_error(device().str() + ": " + why.message());
}

bool CudaDevice::failed() const {
  const std::lock_guard lock(mutex_);
  return !status_.ok();
}

Status CudaDevice::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

}  // namespace liveavatar::cuda
