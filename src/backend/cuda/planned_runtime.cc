#include "backend/cuda/planned_runtime.h"

#include "core/status.h"

namespace liveavatar::cuda {
namespace {

// Handles and memory are null.
class PlannedRuntime final : public Runtime {
 public:
  const Card& card() const override { return card_; }
  const Kernels& kernels() const override {
    LA_CHECK(false && "a plan computes nothing");
    return *static_cast<const Kernels*>(nullptr);
  }
  std::string error_text(int) const override { return ""; }

  int allocate(void**, size_t) override { return 0; }
  int release(void*) override { return 0; }
  size_t free_bytes() const override { return 0; }
  int allocate_pinned(void**, size_t) override { return 0; }
  int release_pinned(void*) override { return 0; }
  int write(void*, const void*, size_t) override { return 0; }
  int read(const void*, void*, size_t) override { return 0; }
  int create_stream(void**) override { return 0; }
  int destroy_stream(void*) override { return 0; }
  int synchronize(void*) override { return 0; }
  int enqueue_write(void*, const void*, size_t, void*) override { return 0; }
  int enqueue_read(const void*, void*, size_t, void*) override { return 0; }
  int create_event(void**) override { return 0; }
  int destroy_event(void*) override { return 0; }
  int record(void*, void*) override { return 0; }
  bool is_done(void*) const override { return true; }
  int wait(void*) override { return 0; }
  int create_timer(void**) override { return 0; }
  int elapsed(void*, void*, float*) const override { return 0; }
  Expected<std::unique_ptr<LinearLibrary>> open_linear_library() override { return none(); }
  Expected<std::unique_ptr<ConvLibrary>> open_conv_library() override { return none(); }
  Expected<std::unique_ptr<LinkLibrary>> open_link_library() override { return none(); }
  int make_current() override { return 0; }

 private:
  static Status none() { return unsupported("a plan computes nothing"); }

  Card card_{"a card that is not opened", 0, 0, 0, ""};
};

}  // namespace

std::unique_ptr<Runtime> make_planned_runtime() { return std::make_unique<PlannedRuntime>(); }

}  // namespace liveavatar::cuda
