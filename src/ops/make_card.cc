// Cards by name: kept from make_backend.cc, so that a program without cards links no more than it needs.
#include <charconv>

#include "backend/cuda/card/card_runtime.h"
#include "backend/cuda/choice_file.h"
#include "backend/cuda/choice_table.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/planned_runtime.h"
#include "core/boundary.h"
#include "ops/make_backend.h"

namespace liveavatar {
namespace {

class CardDevice : public DeviceSource {
 public:
  CardDevice(std::unique_ptr<cuda::Runtime> runtime, int index)
      : device_(std::move(runtime), static_cast<uint8_t>(index)) {}
  Allocator& allocator() override { return device_; }
  Expected<std::unique_ptr<Backend>> open(const BackendOptions& options) override {
    return cuda::CudaBackend::open(device_, options);
  }

 private:
  cuda::CudaDevice device_;
};

constexpr std::string_view kCuda = "cuda";

Expected<std::unique_ptr<cuda::Runtime>> open_runtime(const std::string& device) {
  LA_CHECK(is_card(device));
  Expected<std::unique_ptr<cuda::Runtime>> runtime = cuda::open_card(*card_index(device));
  if (!runtime.ok()) return Status(runtime.status().code(), "`device` " + device + ": " + runtime.status().message());
  return runtime;
}

}  // namespace

std::optional<int> card_index(const std::string& device) {
  std::string_view text = device;
  if (!text.starts_with(kCuda)) return {};
  text.remove_prefix(kCuda.size());
  if (text.empty()) return 0;
  if (!text.starts_with(':')) return {};
  text.remove_prefix(1);
  uint8_t index = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), index);
  if (error != std::errc() || end != text.end()) return {};
  return index;
}

bool is_card(const std::string& device) { return card_index(device).has_value(); }

Expected<std::unique_ptr<DeviceSource>> open_card_device(const std::string& device) {
  return contained("`device` " + device, [&]() -> Expected<std::unique_ptr<DeviceSource>> {
    LA_ASSIGN_OR_RETURN(std::unique_ptr<cuda::Runtime> runtime, open_runtime(device));
    return std::unique_ptr<DeviceSource>(new CardDevice(std::move(runtime), *card_index(device)));
  });
}

Expected<size_t> card_free_bytes(const std::string& device) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<cuda::Runtime> runtime, open_runtime(device));
  return runtime->free_bytes();
}

std::unique_ptr<DeviceSource> plan_card_device(const std::string& device) {
  LA_CHECK(is_card(device));
  return std::make_unique<CardDevice>(cuda::make_planned_runtime(), *card_index(device));
}

Expected<PackingBackend> make_packing_backend(const std::string& device, const BackendOptions& options) {
  PackingBackend packing;
  if (is_card(device)) {
    packing.card = plan_card_device(device);
    LA_ASSIGN_OR_RETURN(packing.backend, packing.card->open({}));
  } else {
    LA_ASSIGN_OR_RETURN(packing.backend, make_backend(device, options));
  }
  return packing;
}

std::string card_choice_file() { return cuda::default_choice_file(); }

std::vector<std::string> describe_card_choices(const std::string& device) {
  const auto lines = contained("`device` " + device, [&]() -> Expected<std::vector<std::string>> {
    LA_ASSIGN_OR_RETURN(std::unique_ptr<cuda::Runtime> runtime, open_runtime(device));
    return cuda::describe_choices(*runtime, card_choice_file());
  });
  return lines.ok() ? *lines : std::vector<std::string>{lines.status().message()};
}

std::vector<std::string> describe_cards() {
  Expected<std::vector<cuda::Card>> cards = cuda::find_cards();
  if (!cards.ok()) return {cards.status().message()};
  std::vector<std::string> lines;
  for (const cuda::Card& card : *cards) lines.push_back(describe(card));
  return lines;
}

}  // namespace liveavatar
