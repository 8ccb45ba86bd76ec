// The table of devices that op tests run on. A new backend joins with one row (devices.cc).
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "support/test_device.h"

namespace liveavatar {

struct OpDevice {
  std::string name;
  std::function<std::unique_ptr<DeviceSource>()> source;  // gives null: not in this build, or no card
  // Largest error against the reference, relative to the largest value: of results in f32, and of results that were
  // rounded to bf16. 0: the reference's bits.
  double f32_tolerance = 0, bf16_tolerance = 0;
  bool may_be_missing = false;  // from the machine that runs the tests
  bool int8_products = false;   // does them when asked (BackendOptions::int8_products)
  bool int8_attention = false;  // and attention that allows it as well
  bool e4m3_products = false;   // and those with weights in e4m3
  bool segments_alone = false;  // attention sums a segment in steps of its own: another split, other bits
  bool int8_as_bf16 = false;    // attention in bf16 rounds 8-bit keys and values to bf16
};

const std::vector<OpDevice>& op_devices();

// What a test is run with. dtype: of activations, or of weights where the test says so.
struct OpCase {
  const OpDevice* device;
  DType dtype;
  double tolerance;  // of the device for that type
};
std::vector<OpCase> op_cases(const std::vector<DType>& dtypes);
std::string op_case_name(const ::testing::TestParamInfo<OpCase>& info);

}  // namespace liveavatar
