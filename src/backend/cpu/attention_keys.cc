#include "backend/cpu/attention_keys.h"

#include <cstring>

#include "backend/cpu/kernel_types.h"
#include "core/quantise.h"

namespace liveavatar::cpu {
namespace {

constexpr int64_t kSampledKeys = 32;  // their mean approximates the mean of all keys
constexpr int kAhead = 6;             // prefetch distance in keys while one is quantised

// One row and head of keys or values; only f32 and bf16.
Row row_at(const Tensor& t, int64_t element) {
  return {static_cast<const char*>(t.address()) + static_cast<size_t>(element) * dtype_bytes(t.dtype),
          type_of(t.dtype)};
}

}  // namespace

ScratchSizes HeadLayout::scratch() const {
  ScratchSizes s;
  s.want(ScratchBuffer::kPointers, columns, sizeof(void*));
  s.want(ScratchBuffer::kMorePointers, columns, sizeof(void*));
  for (ScratchBuffer copies : {ScratchBuffer::kRowCopies, ScratchBuffer::kMoreRowCopies})
    s.want(copies, columns * d, dtype_bytes(dtype));
  if (!int8) return s;
  s.want(ScratchBuffer::kQuantised, columns * row_bytes(), 1);
  s.want(ScratchBuffer::kMiddle, d, sizeof(float));
  s.want(ScratchBuffer::kFactors, d, sizeof(float));
  return s;
}

void KeyPanels::pack(int64_t head, int64_t block, std::byte* target, ThreadScratch& t) const {
  int64_t keys = layout_.block_keys(block);
  int64_t columns = layout_.columns;
  std::byte* values = target + layout_.values_at();
  const float* mean = nullptr;
  const float* factors = nullptr;
  if (layout_.int8) {
    mean = middle(head, t);
    factors = scale_values(head, block, reinterpret_cast<float*>(target + layout_.value_scales_at()), t);
  }
  for (int64_t first = 0; first < keys; first += columns) {
    int count = static_cast<int>(std::min(columns, keys - first));
    const void** k = find_rows(Side::kKeys, head, block * kKeyBlock + first, count, t);
    const void** v = find_rows(Side::kValues, head, block * kKeyBlock + first, count, t);
    if (layout_.int8) {
      quantise_keys(k, count, mean, first, target, t);
      pack_quantised_values(v, count, first, block, factors, values);
    } else {
      pack_values(v, count, first, block, values);
    }
    std::fill(k + count, k + columns, k[0]);  // padding columns
    kernels_.transpose(k, static_cast<int>(columns), layout_.items(layout_.d),
                       target + static_cast<size_t>(first / columns) * layout_.panel_bytes(layout_.d), columns);
  }
}

// Pointers to the rows of `count` keys, or of their values, from `first`. Rows in another type than the panels' are
// converted to copies. The array has space for a panel's columns.
const void** KeyPanels::find_rows(Side side, int64_t head, int64_t first, int count, ThreadScratch& t) const {
  int64_t d = layout_.d;
  int64_t row_bytes = d * static_cast<int64_t>(dtype_bytes(layout_.dtype));
  int64_t before = 0;  // keys of the segments before this one
  bool values = side == Side::kValues;
  std::byte* copies =
      t.at<std::byte>(values ? ScratchBuffer::kMoreRowCopies : ScratchBuffer::kRowCopies, count * row_bytes);
  const void** rows =
      t.at<const void*>(values ? ScratchBuffer::kMorePointers : ScratchBuffer::kPointers, layout_.columns);
  for (const KeyValues& s : segments_) {
    const Tensor& x = values ? s.v : s.k;
    const Tensor& scale = values ? s.v_scale : s.k_scale;
    int64_t width = x.dim(1);
    int64_t end = std::min(first + count, before + x.dim(0));
    for (int64_t key = std::max(first, before); key < end; ++key, copies += row_bytes) {
      int64_t row = key - before;
      rows[key - first] = as_packed(x, scale, row * width + head * d, row * (width / d) + head, copies);
    }
    before += x.dim(0);
  }
  return rows;
}

const void* KeyPanels::as_packed(const Tensor& x, const Tensor& scale, int64_t element, int64_t scale_at,
                                 std::byte* copy) const {
  if (x.dtype == layout_.dtype) return row_at(x, element).data;
  Type type = type_of(layout_.dtype);
  if (is_8bit(x.dtype)) {
    auto decode = x.dtype == DType::kI8 ? kernels_.decode_i8 : kernels_.decode_f8;
    decode(static_cast<const uint8_t*>(x.address()) + element, layout_.d, scale.host<float>()[scale_at], copy, type);
  } else {
    kernels_.activate(row_at(x, element), layout_.d, Activation::kNone, copy, type);
  }
  return copy;
}

// A vector that is common to all keys adds a constant to a query's scores. Softmax ignores it, but it would cost
// precision when keys are quantised, so it is subtracted (Zhang et al. 2024, SageAttention, "smooth matrix K"). Any
// vector is valid; this is the mean of some keys, the same for all blocks.
const float* KeyPanels::middle(int64_t head, ThreadScratch& t) const {
  float* mean = t.at<float>(ScratchBuffer::kMiddle, layout_.d);
  std::fill_n(mean, layout_.d, 0.0f);
  int64_t count = std::min(layout_.keys, kSampledKeys);
  for (int64_t i = 0; i < count; ++i) {
    const void* key = *find_rows(Side::kKeys, head, i * layout_.keys / count, 1, t);
    kernels_.add({mean, Type::kF32}, {key, type_of(layout_.dtype)}, 1.0f / static_cast<float>(count), layout_.d, mean,
                 Type::kF32);
  }
  return mean;
}

// Quantises keys from `first` of a block, and points the pointers to the quantised rows.
void KeyPanels::quantise_keys(const void** keys, int count, const float* middle, int64_t first, std::byte* block,
                              ThreadScratch& t) const {
  int64_t bytes = layout_.row_bytes();
  signed char* quantised = t.at<signed char>(ScratchBuffer::kQuantised, count * bytes);
  int* offsets = reinterpret_cast<int*>(block + layout_.offsets_at()) + first;
  float* scales = reinterpret_cast<float*>(block + layout_.scales_at()) + first;
  for (int i = 0; i < count; ++i, quantised += bytes) {
    const char* prefetch = static_cast<const char*>(keys[std::min(i + kAhead, count - 1)]);
    for (int64_t at = 0; at < layout_.d * 2; at += 64) __builtin_prefetch(prefetch + at);
    kernels_.quantise_key({keys[i], type_of(layout_.dtype)}, middle, layout_.d, quantised, scales + i, offsets + i);
    keys[i] = quantised;
  }
}

// Scales of a block's columns of values. Returns the factors for quantisation.
const float* KeyPanels::scale_values(int64_t head, int64_t block, float* scales, ThreadScratch& t) const {
  float* factors = t.at<float>(ScratchBuffer::kFactors, layout_.d);
  std::fill_n(scales, layout_.width(), 0.0f);
  int64_t keys = layout_.block_keys(block);
  for (int64_t first = 0; first < keys; first += layout_.columns) {
    int count = static_cast<int>(std::min(layout_.columns, keys - first));
    const void** v = find_rows(Side::kValues, head, block * kKeyBlock + first, count, t);
    for (int i = 0; i < count; ++i) kernels_.largest_of({v[i], Type::kBF16}, layout_.d, scales);
  }
  for (int64_t i = 0; i < layout_.d; ++i) {
    factors[i] = scales[i] > 0 ? 127.0f / scales[i] : 0.0f;
    scales[i] /= 127.0f;
  }
  return factors;
}

// The values of `count` keys, at depth `first` of a block's V panels. `first` is even, in 8 bits a multiple of four.
void KeyPanels::pack_values(const void* const* rows, int count, int64_t first, int64_t block, std::byte* target) const {
  bool in_bf16 = layout_.dtype == DType::kBF16;
  int64_t columns = layout_.columns;
  int64_t item = dtype_bytes(layout_.dtype);
  size_t panel_bytes = layout_.panel_bytes(layout_.block_keys(block));
  auto part = [&](int i, int64_t column) {
    return i < count ? static_cast<const std::byte*>(rows[i]) + column * item : nullptr;
  };
  for (int64_t column = 0; column < layout_.d; column += columns, target += panel_bytes) {
    int64_t n = std::min(columns, layout_.d - column);
    for (int i = 0; i < count; i += in_bf16 ? 2 : 1) {
      std::byte* to = target + static_cast<size_t>((first + i) * columns * item);
      if (in_bf16) {
        kernels_.zip(part(i, column), part(i + 1, column), n, to);
      } else {
        std::memcpy(to, part(i, column), static_cast<size_t>(n * item));
        std::memset(to + n * item, 0, static_cast<size_t>((columns - n) * item));
      }
    }
  }
}

void KeyPanels::pack_quantised_values(const void* const* rows, int count, int64_t first, int64_t block,
                                      const float* factors, std::byte* target) const {
  int64_t columns = layout_.columns;
  size_t panel_bytes = layout_.panel_bytes(layout_.block_keys(block));
  for (int64_t column = 0; column < layout_.d; column += columns, target += panel_bytes) {
    int64_t n = std::min(columns, layout_.d - column);
    for (int i = 0; i < count; i += 4) {
      const void* four[4] = {};
      for (int r = 0; r < 4 && i + r < count; ++r) four[r] = static_cast<const bf16*>(rows[i + r]) + column;
      kernels_.quantise_values(four, n, factors + column, target + static_cast<size_t>((first + i) * columns));
    }
  }
}

}  // namespace liveavatar::cpu
