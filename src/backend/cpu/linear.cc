#include "backend/cpu/linear.h"

#include "backend/cpu/int8_product.h"
#include "backend/cpu/matrix_product.h"
#include "backend/cpu/tile_product.h"

namespace liveavatar::cpu {

namespace {

// int8 products without a matrix unit.
bool uses_int8_tiles(const CpuContext& context) { return context.int8_products() && !context.kernels().matrix_i8; }

// Scratch of layers with at most k inputs.
ScratchSizes linear_scratch(const CpuContext& context, int64_t k) {
  ScratchSizes s = TileProduct::scratch(context.kernels(), k);
  if (context.kernels().matrix) s.want(MatrixProduct::scratch(context, k));
  if (uses_int8_tiles(context)) s.want(Int8Product::scratch(context.kernels()));
  return s;
}

}  // namespace

Status reserve_linear(CpuContext& context, int64_t elements, int64_t k) {
  if (context.kernels().matrix) {
    LA_RETURN_IF_ERROR(context.reserve_shared(MatrixProduct::shared_bytes(elements)));
  } else if (uses_int8_tiles(context)) {
    LA_RETURN_IF_ERROR(context.reserve_shared(Int8Product::shared_bytes(elements)));
  }
  return context.reserve(linear_scratch(context, k));
}

void run_linear(CpuContext& context, const Product& p) {
  context.begin(linear_scratch(context, p.shape.k));
  if (MatrixProduct::fits(context, p)) {
    MatrixProduct(context, p).run();
  } else if (context.int8_products() && p.shape.dtype == DType::kI8) {
    Int8Product(context, p).run();
  } else {
    TileProduct(context, p).run();
  }
}

}  // namespace liveavatar::cpu
