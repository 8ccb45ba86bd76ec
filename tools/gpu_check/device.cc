#include <cstdio>

#include "emulated_cuda.h"
#include "gpu_check.h"
#include "ops/make_backend.h"

namespace liveavatar::gpu_check {

Expected<std::unique_ptr<DeviceSource>> open_device(const std::string& device) {
  if (is_card(device)) return open_card_device(device);
  if (device != "cuda-emulated") return invalid_argument(device + ": choose cuda, cuda:N or cuda-emulated");
  std::unique_ptr<DeviceSource> emulated = emulated_cuda();
  if (emulated == nullptr) return unsupported("no device emulation in this build");
  return emulated;
}

void print_figure(const std::string& name, double value, const char* unit) {
  std::printf("figure %s %.6g %s\n", name.c_str(), value, unit);
  std::fflush(stdout);
}

int describe_card(const std::string& device) {
  for (const std::string& card : describe_cards()) std::printf("%s\n", card.c_str());
  const Expected<std::unique_ptr<DeviceSource>> source = open_device(device);
  if (source.ok()) {
    const Expected<std::unique_ptr<Backend>> backend = (*source)->open({});
    if (backend.ok()) std::printf("card: %s\n", (*backend)->describe().c_str());
    return backend.ok() ? 0 : 1;
  }
  std::printf("%s\n", source.status().message().c_str());
  return 1;
}

}  // namespace liveavatar::gpu_check
