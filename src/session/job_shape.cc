#include "session/job_shape.h"

#include <algorithm>

namespace liveavatar {

int64_t JobShape::blocks_in_flight() const {
  if (schedule != "wavefront") return 1;
  int64_t first_clip = std::min(blocks, clip_frames / kBlockFrames);
  return std::min(steps, std::max(first_clip, blocks - first_clip));
}

Expected<DitTypes> JobShape::types() const { return parse_type_flags(dtype, weights_dtype, kv_dtype); }

KvCacheShape JobShape::kv_caches() const {
  const Expected<DitTypes> all = types();
  return {shapes.dit, geometry(), steps, all.ok() ? all->kv : DType::kBF16, resident_kv_caches};
}

Expected<DType> parse_dtype_flag(const std::string& dtype) {
  if (dtype == "bf16") return DType::kBF16;
  if (dtype == "f32") return DType::kF32;
  return invalid_argument("--dtype " + dtype + ": choose bf16 or f32");
}

namespace {

// One of the narrower types by its name; `fallback` for an empty flag.
Expected<DType> parse_narrow(const std::string& flag, const std::string& value, DType fallback, bool with_q4) {
  if (value.empty()) return fallback;
  if (value == "bf16") return DType::kBF16;
  if (value == "int8") return DType::kI8;
  if (value == "fp8") return DType::kF8E4M3;
  if (value == "q4" && with_q4) return DType::kQ4;
  return invalid_argument(flag + " " + value + ": choose bf16, int8" + (with_q4 ? ", fp8 or q4" : " or fp8"));
}

}  // namespace

Expected<DitTypes> parse_type_flags(const std::string& dtype, const std::string& weights_dtype,
                                    const std::string& kv_dtype) {
  LA_ASSIGN_OR_RETURN(DType values, parse_dtype_flag(dtype));
  DitTypes types(values);
  LA_ASSIGN_OR_RETURN(types.weights, parse_narrow("--weights_dtype", weights_dtype, values, true));
  LA_ASSIGN_OR_RETURN(types.kv, parse_narrow("--kv_dtype", kv_dtype, values, false));
  return types;
}

Status check_int8_products(bool int8_products, const std::string& weights_dtype) {
  if (!int8_products || weights_dtype == "int8") return {};
  return invalid_argument("--int8_products: only int8 weights are multiplied in 8 bits, and these are " +
                          (weights_dtype.empty() ? "as --dtype says" : weights_dtype) +
                          "; add --weights_dtype int8, or leave --int8_products out");
}

}  // namespace liveavatar
