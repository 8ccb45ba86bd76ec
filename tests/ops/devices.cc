#include "devices.h"

#include "ops/make_backend.h"
#include "support/emulated_cuda.h"

namespace liveavatar {
namespace {

// Backends that work in host memory.
class HostSource : public DeviceSource {
 public:
  HostSource(std::string device, std::string isa) : device_(std::move(device)), isa_(std::move(isa)) {}
  Allocator& allocator() override { return host_allocator(); }
  Expected<std::unique_ptr<Backend>> open(const BackendOptions& options) override {
    BackendOptions with_isa = options;
    with_isa.isa = isa_;
    return make_backend(device_, with_isa);
  }

 private:
  std::string device_, isa_;
};

std::unique_ptr<DeviceSource> reference_source() { return std::make_unique<HostSource>("reference", ""); }
std::unique_ptr<DeviceSource> test_source() {
  return std::make_unique<TestDevice>(TestDeviceOptions{.most_delay_us = 50});
}

OpDevice cpu(const std::string& isa, bool int8_products = false) {
  OpDevice row;
  row.name = "cpu_" + isa;
  for (char& c : row.name) c = c == '-' ? '_' : c;
  row.source = [isa] { return std::make_unique<HostSource>("cpu", isa); };
  row.f32_tolerance = 2e-6;
  row.bf16_tolerance = 5e-3;  // rounded once: half a unit in the last of 8 bits
  row.may_be_missing = true;
  row.int8_products = int8_products;
  row.int8_attention = int8_products;
  row.int8_as_bf16 = true;
  return row;
}

OpDevice card(const std::string& name, std::unique_ptr<DeviceSource> (*source)()) {
  OpDevice row;
  row.name = name;
  row.source = source;
  row.f32_tolerance = 2e-6;
  row.bf16_tolerance = 5e-3;  // rounded once
  row.segments_alone = true;
  row.int8_products = true;
  row.e4m3_products = true;
  row.may_be_missing = true;
  return row;
}

std::unique_ptr<DeviceSource> emulated_source() { return emulated_cuda(); }
std::unique_ptr<DeviceSource> card_source() {
  auto source = open_card_device("cuda");
  return source.ok() ? *std::move(source) : nullptr;
}

}  // namespace

const std::vector<OpDevice>& op_devices() {
  static const std::vector<OpDevice> rows{
      {"reference", reference_source},
      cpu("avx2"),
      cpu("avx512"),
      cpu("avx512bf16", true),
      cpu("amx", true),
      cpu("amx-model", true),
      {"test_device", test_source},
      card("cuda_emulated", emulated_source),
      card("cuda_card", card_source),
  };
  return rows;
}

std::vector<OpCase> op_cases(const std::vector<DType>& dtypes) {
  std::vector<OpCase> cases;
  for (const OpDevice& device : op_devices()) {
    for (DType dtype : dtypes)
      cases.push_back({&device, dtype, dtype == DType::kF32 ? device.f32_tolerance : device.bf16_tolerance});
  }
  return cases;
}

std::string op_case_name(const ::testing::TestParamInfo<OpCase>& info) {
  return info.param.device->name + "_" + dtype_name(info.param.dtype);
}

}  // namespace liveavatar
