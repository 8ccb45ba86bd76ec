#include "ops/transfer.h"

namespace liveavatar {
namespace {

// The tensor itself if it is in host memory, else a tensor of its shape in `staging`.
Tensor host_side(const Tensor& tensor, std::unique_ptr<std::byte[]>& staging) {
  if (tensor.device.is_host()) return tensor;
  staging.reset(new std::byte[tensor.bytes()]);
  return {staging.get(), tensor.shape, tensor.dtype};
}

}  // namespace

Upload::Upload(Backend& backend, const Tensor& to) : backend_(backend), to_(to), host_(host_side(to, staging_)) {}

Upload::~Upload() {
  if (staging_) backend_.upload(staging_.get(), to_);
}

Download::Download(Backend& backend, const Tensor& from) : host_(host_side(from, staging_)) {
  if (staging_) backend.download(from, staging_.get());
}

void ops::transfer(Backend& from, const Tensor& x, Backend& to, const Tensor& out) {
  LA_CHECK(x.shape == out.shape && x.dtype == out.dtype);
  Download host(from, x);
  to.upload(host.tensor().address(), out);
}

}  // namespace liveavatar
