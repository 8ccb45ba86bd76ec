#include "weights/loader.h"

#include <algorithm>
#include <bit>

#include "core/quantise.h"
#include "core/rounding.h"
#include "weights/squeezed.h"

namespace liveavatar {
namespace {

constexpr size_t kBlockBytes = 1 << 20;  // small tensors share blocks; large ones get their own
constexpr size_t kAlignBytes = 64;       // of packed weights
// Sizes of staging memory: f32 values of a matrix, and of a chunk in the file's type.
constexpr int64_t kStagedElements = 1 << 20, kPieceElements = 1 << 18;
constexpr size_t kWidestElementBytes = 8;

bool fits(const TensorInfo& info, const Shape& wanted) {
  if (info.loose_shape && info.shape.elements() == wanted.elements()) return true;
  return squeezed(info.shape) == squeezed(wanted);
}

// Whether this convolution kernel can be used as this matrix: its inner dimensions are then one.
bool is_kernel_of(const TensorInfo& info, const Shape& matrix) {
  return info.shape.rank() > 2 && info.shape[0] == matrix[0] && info.shape.elements() == matrix.elements();
}

// Elements of a chunk of whole rows that is read at a time.
int64_t piece_elements(int64_t elements, int64_t row) {
  return std::min(elements, std::max<int64_t>(1, kPieceElements / row) * row);
}

// Rows of a matrix that are packed at a time, so that it is never in memory twice.
int64_t rows_at_once(int64_t k) {
  return std::max<int64_t>(1, kStagedElements / k / Backend::kPackRows) * Backend::kPackRows;
}

int64_t row_elements(const Shape& shape) { return shape.elements() / shape[0]; }

// [rows, ...] of a tensor [shape].
Shape rows_of(const Shape& shape, int64_t rows) {
  Shape part{rows};
  for (int i = 1; i < shape.rank(); ++i) part.push_back(shape[i]);
  return part;
}

// No branch for each value, so that the compiler can use vectors.
bool all_finite(const float* values, int64_t n) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t bad = 0;
  for (int64_t i = 0; i < n; ++i) bad |= (std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent;
  return bad == 0;
}

}  // namespace

std::byte* PackedMemory::allocate(size_t bytes) {
  size_t offset = used_bytes_;
  used_bytes_ += round_up(bytes, kAlignBytes);
  return data_ == nullptr ? nullptr : data_ + offset;
}

// ---- Views

Tensor WeightViews::read(const std::string&, const Shape& shape, TensorPart rows) {
  return {nullptr, rows_of(shape, rows.count), DType::kF32};
}

std::byte* WeightViews::pack_matrix(const std::string&, const Shape& shape, TensorPart rows, DType dtype) {
  return packed_.allocate(backend_.packed_linear_bytes(rows.count, row_elements(shape), dtype));
}

// ---- Memory

WeightAllocator::WeightAllocator(const Backend& backend, Budget& budget, MemoryCategory category, WeightTypes types,
                                 size_t scratch_bytes)
    : WeightVisitor(backend, types), budget_(budget), category_(category) {
  auto charge = Charge::acquire(budget.host(), category, scratch_bytes);
  if (charge.ok()) {
    scratch_ = *std::move(charge);
  } else {
    fail(charge.status());
  }
}

std::byte* WeightAllocator::allocate(size_t bytes) {
  if (packed_) return packed_->allocate(bytes);
  bytes = round_up(bytes, kAlignBytes);
  auto at = [](const Buffer& buffer, size_t offset) { return buffer.data() ? buffer.data() + offset : nullptr; };
  bool own_block = bytes > kBlockBytes / 4;
  if (!own_block && !buffers_.empty() && block_used_bytes_ + bytes <= kBlockBytes) {
    std::byte* memory = at(buffers_.back(), block_used_bytes_);
    block_used_bytes_ += bytes;
    return memory;
  }
  auto buffer = Buffer::allocate(budget_, category_, own_block ? bytes : kBlockBytes);
  if (!buffer.ok()) {
    fail(buffer.status());
    return nullptr;
  }
  std::byte* memory = at(*buffer, 0);
  if (own_block) {
    buffers_.insert(buffers_.begin(), *std::move(buffer));  // the open block stays last
    if (buffers_.size() == 1) block_used_bytes_ = kBlockBytes;
  } else {
    buffers_.push_back(*std::move(buffer));
    block_used_bytes_ = bytes;
  }
  return memory;
}

bool WeightAllocator::stage(int64_t elements, int64_t row) {
  size_t values = static_cast<size_t>(elements) * sizeof(float);
  return grow(staging_, values + static_cast<size_t>(piece_elements(elements, row)) * kWidestElementBytes);
}

bool WeightAllocator::grow(Buffer& memory, size_t bytes) {
  if (bytes <= memory.bytes()) return true;
  memory = Buffer();  // free the old one first: both together would raise the peak
  auto buffer = Buffer::allocate(budget_.host(), category_, bytes);
  if (!buffer.ok()) {
    fail(buffer.status());
    return false;
  }
  memory = *std::move(buffer);
  return true;
}

// ---- Sizes

Tensor WeightSizer::read(const std::string&, const Shape& shape, TensorPart rows) {
  int64_t row = row_elements(shape);
  stage(rows.count * row, row);
  return {nullptr, rows_of(shape, rows.count), DType::kF32};
}

std::byte* WeightSizer::pack_matrix(const std::string&, const Shape& shape, TensorPart rows, DType dtype) {
  int64_t k = row_elements(shape);
  std::byte* no_memory = allocate(backend_.packed_linear_bytes(rows.count, k, dtype));
  const int64_t piece = std::min(rows.count, rows_at_once(k));  // the first one is the largest
  stage_packed(backend_.packed_linear_bytes(piece, k, dtype));
  stage(piece * k, k);
  return no_memory;
}

std::byte* WeightSizer::pack(size_t bytes, const Fill&) {
  std::byte* no_memory = allocate(bytes);
  stage_packed(bytes);
  return no_memory;
}

// ---- Values

// Whether the source has the tensor with this shape.
bool WeightLoader::check(const std::string& name, const Shape& shape) {
  if (!status().ok()) return false;
  auto it = source_.tensors().find(name);
  if (it == source_.tensors().end()) {
    fail(not_found(source_.where() + ": tensor " + name + " is missing; this is not the checkpoint it should be"));
  } else if (!fits(it->second, shape)) {
    fail(corrupt(source_.where() + ": tensor " + name + " has shape " + it->second.shape.str() + ", wanted " +
                 shape.str()));
  }
  return status().ok();
}

Tensor WeightLoader::read(const std::string& name, const Shape& shape, TensorPart rows) {
  if (!check(name, shape)) return {};
  int64_t row = row_elements(shape), elements = rows.count * row;
  if (!stage(elements, row)) return {};
  Tensor values(staging_.data(), rows_of(shape, rows.count), DType::kF32);
  DType dtype = source_.tensors().at(name).dtype;
  std::byte* raw = staging_.data() + values.bytes();
  int64_t piece = piece_elements(elements, row);
  for (int64_t at = 0; at < elements; at += piece) {
    int64_t n = std::min(piece, elements - at);
    if (Status status = source_.read_part(name, {rows.first * row + at, n}, raw); !status.ok()) {
      fail(status);
      return {};
    }
    convert_to_f32(raw, dtype, values.host<float>() + at, n);
  }
  if (!all_finite(values.host<float>(), elements)) {
    fail(corrupt(source_.where() + ": tensor " + name + " holds NaN or infinity; download the file again"));
    return {};
  }
  return values;
}

void WeightLoader::write(std::byte* memory, size_t bytes, const Fill& fill) {
  if (device().is_host()) return fill(memory);
  if (!stage_packed(bytes)) return;
  fill(packing_.data());
  if (Status written = budget_.allocator().write(memory, packing_.data(), bytes); !written.ok()) fail(written);
}

std::byte* WeightLoader::pack(size_t bytes, const Fill& fill) {
  std::byte* memory = allocate(bytes);
  if (memory != nullptr) write(memory, bytes, fill);
  return memory;
}

// Packs rows that the file stores as quantised values of the wanted type, without decoding and rounding again. False:
// values that the kernels do not support (-128, NaN), or a read error. Then they are read as f32.
bool WeightLoader::pack_stored_quantised(const std::string& name, TensorPart rows, int64_t k, std::byte* target) {
  // Quantised values and scales fit into the staging memory for f32 values.
  bool staged = k > 1 && stage(rows.count * k, k);
  if (!staged) return false;
  DType type = source_.tensors().at(name).quantised;
  auto* scales = reinterpret_cast<float*>(staging_.data());
  auto* quantised = reinterpret_cast<uint8_t*>(scales + rows.count);
  if (!source_.read_quantised(name, rows, quantised, scales).ok()) return false;
  auto foreign = [type](uint8_t c) { return type == DType::kI8 ? c == 0x80 : (c & 0x7f) == 0x7f; };
  if (std::any_of(quantised, quantised + rows.count * k, foreign)) return false;
  backend_.pack_prequantised(Tensor(quantised, {rows.count, k}, type), {scales, static_cast<size_t>(rows.count)},
                             target);
  return true;
}

std::byte* WeightLoader::pack_matrix(const std::string& name, const Shape& shape, TensorPart rows, DType dtype) {
  auto info = source_.tensors().find(name);
  bool there = info != source_.tensors().end();
  const Shape own = there && is_kernel_of(info->second, shape) ? info->second.shape : shape;
  if (!check(name, own)) return nullptr;
  const int64_t k = row_elements(own), at_once = rows_at_once(k);
  std::byte* memory = allocate(backend_.packed_linear_bytes(rows.count, k, dtype));
  if (memory == nullptr) return nullptr;
  bool stored = is_8bit(dtype) && dtype == info->second.quantised;
  for (int64_t r = 0; r < rows.count && status().ok(); r += at_once) {
    TensorPart piece{rows.first + r, std::min(at_once, rows.count - r)};
    auto fill = [&](std::byte* host) {
      if (stored && pack_stored_quantised(name, piece, k, host)) return;
      Tensor values = read(name, own, piece);
      if (!values.empty()) backend_.pack_linear(values.reshape({piece.count, k}), dtype, host);
    };
    write(memory + backend_.packed_linear_bytes(r, k, dtype), backend_.packed_linear_bytes(piece.count, k, dtype),
          fill);
  }
  return memory;
}

std::vector<std::string> WeightLoader::unused() const {
  std::vector<std::string> names;
  for (const auto& [name, info] : source_.tensors()) {
    if (!asked().contains(name)) names.push_back(name);
  }
  return names;
}

}  // namespace liveavatar
