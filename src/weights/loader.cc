#include "weights/loader.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/quantise.h"
#include "weights/squeezed.h"

namespace liveavatar {
namespace {

constexpr size_t kBlockBytes = 1 << 20;  // small tensors share blocks; large ones get their own
// What passes through staging memory at a time: f32 values of a matrix, and of those as they lie in the file.
constexpr int64_t kStagedElements = 1 << 20, kPieceElements = 1 << 18;
constexpr size_t kWidestElementBytes = 8;

bool fits(const TensorInfo& info, const Shape& wanted) {
  if (info.loose_shape && info.shape.elements() == wanted.elements()) return true;
  return squeezed(info.shape) == squeezed(wanted);
}

// How much of so many elements, in whole rows, is read at a time.
int64_t piece_elements(int64_t elements, int64_t row) {
  return std::min(elements, std::max<int64_t>(1, kPieceElements / row) * row);
}

// Without a branch a value, so that the compiler can use vectors.
bool all_finite(const float* values, int64_t n) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t bad = 0;
  for (int64_t i = 0; i < n; ++i) bad |= (std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent;
  return bad == 0;
}

}  // namespace

void WeightLoader::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void WeightLoader::charge_scratch(size_t bytes) {
  auto charge = Charge::take(budget_.host(), tenant_, bytes);
  if (!charge.ok()) return fail(charge.status());
  scratch_ = *std::move(charge);
}

bool WeightLoader::has(const std::string& name) const { return !measuring() && source_->tensors().contains(name); }

// Whether the tensor is there in this shape.
bool WeightLoader::check(const std::string& name, const Shape& shape) {
  used_.emplace(name, shape);
  if (!status_.ok() || measuring()) return status_.ok();
  auto it = source_->tensors().find(name);
  if (it == source_->tensors().end()) {
    fail(not_found(source_->where() + ": tensor " + name + " is missing; this is not the checkpoint it should be"));
  } else if (!fits(it->second, shape)) {
    fail(corrupt(source_->where() + ": tensor " + name + " has shape " + it->second.shape.str() + ", wanted " +
                 shape.str()));
  }
  return status_.ok();
}

// Makes room for this many f32 values and, behind them, a piece as it lies in the file, whatever its type.
bool WeightLoader::stage(int64_t elements, int64_t piece) {
  size_t bytes = static_cast<size_t>(elements) * sizeof(float) + static_cast<size_t>(piece) * kWidestElementBytes;
  return grow(staging_, bytes);
}

// Host memory of so many bytes, with anything in it. False: there is none.
bool WeightLoader::grow(Buffer& memory, size_t bytes) {
  if (bytes <= memory.bytes()) return true;
  memory = Buffer();  // the old one first: both at once would be the peak
  auto buffer = Buffer::allocate(budget_.host(), tenant_, bytes);
  if (!buffer.ok()) {
    fail(buffer.status());
    return false;
  }
  memory = *std::move(buffer);
  return true;
}

Tensor WeightLoader::read_rows(const std::string& name, Shape shape, int64_t first, int64_t count) {
  if (!check(name, shape)) return {};
  int64_t row = shape.elements() / shape[0], elements = count * row;
  int64_t piece = piece_elements(elements, row);
  if (!stage(elements, piece)) return {};
  Shape part{count};
  for (int i = 1; i < shape.rank(); ++i) part.push_back(shape[i]);
  Tensor values(staging_.data(), part, DType::kF32);
  if (measuring()) return values;
  DType dtype = source_->tensors().at(name).dtype;
  std::byte* raw = staging_.data() + static_cast<size_t>(elements) * sizeof(float);
  for (int64_t at = 0; at < elements; at += piece) {
    int64_t n = std::min(piece, elements - at);
    if (Status status = source_->read_part(name, {first * row + at, n}, raw); !status.ok()) {
      fail(status);
      return {};
    }
    convert_to_f32(raw, dtype, values.host<float>() + at, n);
  }
  if (!all_finite(values.host<float>(), elements)) {
    fail(corrupt(source_->where() + ": tensor " + name + " holds NaN or infinity; download the file again"));
    return {};
  }
  return values;
}

void* WeightLoader::store(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (placing_) {
    size_t offset = placed_bytes_;
    placed_bytes_ += bytes;
    return base_ == nullptr ? nullptr : base_ + offset;
  }
  auto at = [](const Buffer& buffer, size_t offset) { return buffer.data() ? buffer.data() + offset : nullptr; };
  bool own_block = bytes > kBlockBytes / 4;
  if (!own_block && !buffers_.empty() && block_used_bytes_ + bytes <= kBlockBytes) {
    void* memory = at(buffers_.back(), block_used_bytes_);
    block_used_bytes_ += bytes;
    return memory;
  }
  auto buffer = Buffer::allocate(budget_, tenant_, own_block ? bytes : kBlockBytes);
  if (!buffer.ok()) {
    fail(buffer.status());
    return nullptr;
  }
  void* memory = at(*buffer, 0);
  if (own_block) {
    buffers_.insert(buffers_.begin(), *std::move(buffer));  // the open block stays last
    if (buffers_.size() == 1) block_used_bytes_ = kBlockBytes;
  } else {
    buffers_.push_back(*std::move(buffer));
    block_used_bytes_ = bytes;
  }
  return memory;
}

template <typename Fill>
void WeightLoader::put(void* memory, size_t bytes, const Fill& fill) {
  if (memory == nullptr || measuring() || !status_.ok()) return;
  auto* target = static_cast<std::byte*>(memory);
  if (device().is_host()) return fill(target);
  if (!grow(packing_, bytes)) return;
  fill(packing_.data());
  if (Status written = budget_.allocator().write(target, packing_.data(), bytes); !written.ok()) fail(written);
}

Tensor WeightLoader::keep(const Tensor& values_f32) {
  if (!status_.ok()) return {};
  void* memory = store(values_f32.bytes());
  auto copy = [&](std::byte* host) { std::memcpy(host, values_f32.host<float>(), values_f32.bytes()); };
  put(memory, values_f32.bytes(), copy);
  return {memory, values_f32.shape, DType::kF32, device()};
}

Tensor WeightLoader::keep(const std::vector<float>& values, Shape shape) {
  return keep(Tensor(const_cast<float*>(values.data()), shape, DType::kF32));
}

Tensor WeightLoader::vector(const std::string& name, Shape shape) { return keep(read_f32(name, shape)); }

std::vector<float> WeightLoader::host_vector(const std::string& name, Shape shape) {
  Tensor values = read_f32(name, shape);
  std::vector<float> copy(static_cast<size_t>(shape.elements()));
  if (!values.empty()) std::copy_n(values.host<float>(), values.elements(), copy.begin());
  return copy;
}

// Rows that the file holds as codes of the wanted type, packed as they are: no decoding, no new rounding. False: codes
// that the kernels do not take (-128, NaN) or that cannot be read; then they come as values.
bool WeightLoader::pack_stored_codes(const std::string& name, TensorPart rows, int64_t k, std::byte* target) {
  // Codes and scales in the room of f32 values, which is the same as when they are read.
  bool room = k > 1 && stage(rows.count * k, piece_elements(rows.count * k, k));
  if (!room) return false;
  DType type = source_->tensors().at(name).codes;
  auto* scales = reinterpret_cast<float*>(staging_.data());
  auto* codes = reinterpret_cast<uint8_t*>(scales + rows.count);
  if (!source_->read_codes(name, rows, codes, scales).ok()) return false;
  auto foreign = [type](uint8_t c) { return type == DType::kI8 ? c == 0x80 : (c & 0x7f) == 0x7f; };
  if (std::any_of(codes, codes + rows.count * k, foreign)) return false;
  backend_.pack_codes(Tensor(codes, {rows.count, k}, type), {scales, static_cast<size_t>(rows.count)}, target);
  return true;
}

// Piece by piece, so that a matrix is never in memory twice.
LinearWeight WeightLoader::pack_rows(const std::string& name, const Shape& shape, TensorPart part, DType dtype) {
  LinearWeight w;
  w.n = part.count;
  w.k = shape.elements() / shape[0];
  w.dtype = dtype;
  if (!check(name, shape)) return w;
  auto* memory = static_cast<std::byte*>(store(backend_.packed_linear_bytes(w.n, w.k, dtype)));
  int64_t piece = std::max<int64_t>(1, kStagedElements / w.k / Backend::kPackRows) * Backend::kPackRows;
  bool coded = !measuring() && is_8bit(dtype) && dtype == source_->tensors().at(name).codes;
  for (int64_t r = 0; r < w.n && status_.ok(); r += piece) {
    int64_t rows = std::min(piece, w.n - r);
    std::byte* target = memory == nullptr ? nullptr : memory + backend_.packed_linear_bytes(r, w.k, dtype);
    put(target, backend_.packed_linear_bytes(rows, w.k, dtype), [&](std::byte* host) {
      if (coded && pack_stored_codes(name, {part.first + r, rows}, w.k, host)) return;
      Tensor values = read_rows(name, shape, part.first + r, rows);
      if (!values.empty()) backend_.pack_linear(values.reshape({rows, w.k}), dtype, host);
    });
    if (measuring()) read_rows(name, shape, part.first + r, rows);
  }
  w.data = memory;
  return w;
}

LinearWeight WeightLoader::matrix(const std::string& name, int64_t n, int64_t k) {
  Shape shape{n, k};
  if (has(name)) {
    // Convolution kernels that are used as matrices keep their own shape; only the first dimension and the count must
    // fit.
    const Shape& own = source_->tensors().at(name).shape;
    if (own.rank() > 2 && own[0] == n && own.elements() == n * k) shape = own;
  }
  return pack_rows(name, shape, {0, n}, types_.values);
}

LinearWeight WeightLoader::linear(const std::string& name, int64_t n, int64_t k, bool with_bias) {
  LinearWeight w = matrix(name + ".weight", n, k);
  if (with_bias) w.bias = vector(name + ".bias", {n});
  return w;
}

LinearWeight WeightLoader::large_linear(const std::string& name, int64_t n, int64_t k) {
  LinearWeight w = pack_rows(name + ".weight", {n, k}, {0, n}, types_.large);
  w.bias = vector(name + ".bias", {n});
  return w;
}

LinearWeight WeightLoader::linear_rows(const std::string& name, Shape shape, int64_t first, int64_t count) {
  LinearWeight w = pack_rows(name + ".weight", shape, {first, count}, types_.values);
  w.bias = keep(read_rows(name + ".bias", {shape[0]}, first, count));
  return w;
}

ConvWeight WeightLoader::pack_conv(const Tensor& weight_f32, const ConvWeight& shape, const Tensor& bias) {
  ConvWeight w = shape;
  w.dtype = types_.values;
  w.bias = bias;
  if (!status_.ok()) return w;
  void* memory = store(backend_.packed_conv_bytes(w));
  put(memory, backend_.packed_conv_bytes(w), [&](std::byte* host) { backend_.pack_conv(weight_f32, w, host); });
  w.data = memory;
  return w;
}

ConvWeight WeightLoader::conv(const std::string& name, int64_t out_channels, int64_t in_channels,
                              std::array<int64_t, 3> kernel, int64_t groups, bool with_bias) {
  ConvWeight w;
  w.out_channels = out_channels;
  w.in_channels = in_channels;
  w.kernel = kernel;
  w.groups = groups;
  Tensor bias = with_bias ? vector(name + ".bias", {out_channels}) : Tensor();
  Shape shape{out_channels, in_channels / groups, kernel[0], kernel[1], kernel[2]};
  return pack_conv(read_f32(name + ".weight", shape), w, bias);
}

std::vector<std::string> WeightLoader::unused(std::initializer_list<const char*> ignored_prefixes) const {
  std::vector<std::string> names;
  if (measuring()) return names;
  for (const auto& [name, info] : source_->tensors()) {
    bool ignored = used_.contains(name);
    for (const char* prefix : ignored_prefixes) ignored = ignored || name.starts_with(prefix);
    if (!ignored) names.push_back(name);
  }
  return names;
}

}  // namespace liveavatar
