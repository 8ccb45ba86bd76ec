#include "weights/stoppable_source.h"

#include <utility>

#include "core/stop.h"

namespace liveavatar {
namespace {

class StoppableSource : public TensorSource {
 public:
  StoppableSource(TensorSourcePtr source, std::stop_token stop) : source_(std::move(source)), stop_(std::move(stop)) {}

  const std::map<std::string, TensorInfo>& tensors() const override { return source_->tensors(); }
  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    LA_RETURN_IF_ERROR(check_stop(stop_));
    return source_->read_part(name, part, target);
  }
  Status read_quantised(const std::string& name, TensorPart rows, uint8_t* quantised, float* scales) const override {
    LA_RETURN_IF_ERROR(check_stop(stop_));
    return source_->read_quantised(name, rows, quantised, scales);
  }
  std::string metadata(const std::string& key) const override { return source_->metadata(key); }
  size_t scratch_bytes() const override { return source_->scratch_bytes(); }
  std::string where() const override { return source_->where(); }

 private:
  TensorSourcePtr source_;
  std::stop_token stop_;
};

}  // namespace

TensorSourcePtr stoppable(TensorSourcePtr source, std::stop_token stop) {
  if (!stop.stop_possible()) return source;
  return std::make_shared<StoppableSource>(std::move(source), std::move(stop));
}

}  // namespace liveavatar
