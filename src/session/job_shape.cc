#include "session/job_shape.h"

#include <algorithm>

#include "ops/make_backend.h"

namespace liveavatar {

int64_t JobShape::blocks_in_flight() const {
  if (schedule != Schedule::kWavefront) return 1;
  int64_t first_clip = std::min(blocks, clip_frames / kBlockFrames);
  return std::min(own_steps().count, std::max(first_clip, blocks - first_clip));
}

bool JobShape::beside_host_memory() const { return is_card(device); }

bool JobShape::decodes_beside() const {
  return online_decode && (decode_threads > 0 || (decode_beside && is_card(device)));
}

DitTypes JobShape::types() const { return dit_types(dtype, weights_dtype, kv_dtype); }

const char* JobShape::weights_name() const {
  const bool same = weights_dtype == WeightsType::kSameAsDtype;
  return same ? compute_type_name(dtype) : weights_type_name(weights_dtype);
}

const char* JobShape::kv_name() const {
  return kv_dtype == KvType::kSameAsDtype ? compute_type_name(dtype) : kv_type_name(kv_dtype);
}

KvCacheShape JobShape::kv_caches() const {
  const DitConfig own = shapes.dit.of_own_heads(rank.share);
  return {own, geometry(), own_steps().count, types().kv, resident_kv_caches, host_kv_caches};
}

namespace {

DType weights_type(WeightsType type, DType values) {
  switch (type) {
    case WeightsType::kSameAsDtype:
      return values;
    case WeightsType::kBf16:
      return DType::kBF16;
    case WeightsType::kInt8:
      return DType::kI8;
    case WeightsType::kFp8:
      return DType::kF8E4M3;
    case WeightsType::kQ4:
      return DType::kQ4;
  }
  return values;
}

DType kv_type(KvType type, DType values) {
  switch (type) {
    case KvType::kSameAsDtype:
      return values;
    case KvType::kBf16:
      return DType::kBF16;
    case KvType::kInt8:
      return DType::kI8;
    case KvType::kFp8:
      return DType::kF8E4M3;
  }
  return values;
}

}  // namespace

JobShape rank_shape(const JobShape& whole, const Placement& placement, int rank) {
  JobShape shape = whole;
  shape.placement = placement;
  shape.rank = placement.part(rank);
  if (rank == 0) return shape;
  shape.video_model_only = shape.online_decode = true;
  shape.decode_threads = 0;
  shape.decode_beside = false;
  shape.cache_bytes = shape.portrait_bytes = 0;
  return shape;
}

DitTypes dit_types(ComputeType dtype, WeightsType weights_dtype, KvType kv_dtype) {
  const DType values = dtype == ComputeType::kF32 ? DType::kF32 : DType::kBF16;
  DitTypes types(values);
  types.weights = weights_type(weights_dtype, values);
  types.kv = kv_type(kv_dtype, values);
  return types;
}

Status check_int8_products(bool int8_products, WeightsType weights_dtype) {
  if (!int8_products || weights_dtype == WeightsType::kInt8) return {};
  const bool same = weights_dtype == WeightsType::kSameAsDtype;
  return invalid_argument(std::string("`int8_products`: only int8 weights are multiplied in 8 bits, and these are ") +
                          (same ? "as `dtype` says" : weights_type_name(weights_dtype)) +
                          "; add `weights_dtype` int8, or leave `int8_products` out");
}

}  // namespace liveavatar
