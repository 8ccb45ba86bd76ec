#include "weights/scaled_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "weights/block_formats.h"
#include "weights/layer_formats.h"

namespace liveavatar {
namespace {

constexpr int64_t kMxfp8Block = 32, kNvfp4Block = 16;
constexpr int64_t kChunk = 16 << 10;  // values that pass through the stack at a time

int64_t row_elements(const Shape& shape) { return shape.rank() == 0 ? 1 : shape.elements() / shape[0]; }

class ScaledSource : public TensorSource {
 public:
  explicit ScaledSource(TensorSourcePtr file) : file_(std::move(file)) {}
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return file_->where(); }
  std::string metadata(const std::string& key) const override { return file_->metadata(key); }
  size_t scratch_bytes() const override { return file_->scratch_bytes(); }
  Status read_part(const std::string& name, TensorPart part, void* target) const override;
  Status read_quantised(const std::string& name, TensorPart rows, uint8_t* quantised, float* scales) const override;

  Status open();

 private:
  Status wrong(const std::string& name, const std::string& why) const {
    return corrupt(file_->where() + ": " + name + " " + why + "; download the file again");
  }
  const TensorInfo& stored(const std::string& name) const { return file_->tensors().at(name); }
  Status add_weight(const std::string& name, const LayerFormat& layer);
  Status check_row_scale(const std::string& weight, const std::string& scale) const;
  Status check_blocks(const std::string& weight, const LayerFormat& layer, int64_t block) const;
  Status read_floats(const std::string& name, TensorPart part, float* values) const;
  Status read_row_scales(const LayerFormat& layer, TensorPart rows, float* scales) const;
  Status decode_values(const std::string& name, const LayerFormat& layer, TensorPart part, float* values) const;
  Status multiply_rows(const std::string& name, const LayerFormat& layer, TensorPart part, float* values) const;
  Status multiply_blocks(const std::string& name, const LayerFormat& layer, TensorPart part, float* values) const;
  Status multiply_columns(const std::string& name, const LayerFormat& layer, TensorPart part, float* values) const;

  TensorSourcePtr file_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, LayerFormat> layers_;
};

Status ScaledSource::open() {
  LA_ASSIGN_OR_RETURN(layers_, read_layer_formats(*file_));
  for (const auto& [name, info] : file_->tensors()) {
    if (is_companion(*file_, name)) continue;
    auto layer = layers_.find(name);
    if (layer != layers_.end()) {
      LA_RETURN_IF_ERROR(add_weight(name, layer->second));
      continue;
    }
    TensorInfo& plain = tensors_[name] = info;
    if (info.dtype == DType::kF8E4M3 && info.shape.rank() == 2) plain.quantised = DType::kF8E4M3;
  }
  return {};
}

Status ScaledSource::add_weight(const std::string& name, const LayerFormat& layer) {
  TensorInfo info = stored(name);
  if (info.stored == nullptr) {
    info.stored = dtype_name(info.dtype);
    info.stored_bytes = info.shape.elements() * static_cast<int64_t>(dtype_bytes(info.dtype));
  }
  if (info.shape.rank() == 0 || info.shape.elements() == 0)
    return wrong(name, "has scales, but its shape is " + info.shape.str());
  bool as_is = layer.rotation_group == 0 && layer.pre_quant_scale.empty();
  switch (layer.format) {
    case WeightFormat::kPlain:
      break;
    case WeightFormat::kScaled:
      LA_RETURN_IF_ERROR(check_row_scale(name, layer.scale));
      if (as_is && info.shape.rank() == 2 && (info.dtype == DType::kI8 || info.dtype == DType::kF8E4M3))
        info.quantised = info.dtype;
      break;
    case WeightFormat::kMxfp8:
      info.stored = "MXFP8";
      LA_RETURN_IF_ERROR(check_blocks(name, layer, kMxfp8Block));
      break;
    case WeightFormat::kNvfp4:
      info.stored = "NVFP4";
      if (info.shape.rank() != 2) return wrong(name, "is nvfp4 of shape " + info.shape.str() + ", wanted a matrix");
      info.shape = {info.shape[0], 2 * info.shape[1]};
      LA_RETURN_IF_ERROR(check_blocks(name, layer, kNvfp4Block));
      if (stored(layer.scale_2).shape.elements() != 1) return wrong(layer.scale_2, "is not a single number");
      break;
  }
  if (!layer.pre_quant_scale.empty()) {
    const Shape& factors = stored(layer.pre_quant_scale).shape;
    if (info.shape.rank() != 2 || factors.elements() != info.shape[1])
      return wrong(layer.pre_quant_scale, "of shape " + factors.str() + " is not one factor for each input");
  }
  info.dtype = DType::kF32;
  tensors_[name] = info;
  return {};
}

// One scale for all, or one for each output: [], [1], [out], [out, 1].
Status ScaledSource::check_row_scale(const std::string& weight, const std::string& scale) const {
  const Shape& shape = stored(scale).shape;
  int64_t outputs = stored(weight).shape[0];
  bool one = shape.elements() == 1, each = shape.rank() > 0 && shape[0] == outputs && shape.elements() == outputs;
  if (one || each) return {};
  return wrong(scale, "has shape " + shape.str() + ", which is neither one scale nor one for each of " +
                          std::to_string(outputs) + " outputs");
}

Status ScaledSource::check_blocks(const std::string& weight, const LayerFormat& layer, int64_t block) const {
  const TensorInfo &info = stored(weight), &scale = stored(layer.scale);
  int64_t columns = info.shape.rank() == 2 ? info.shape[1] * (block == kNvfp4Block ? 2 : 1) : 0;
  if (columns == 0 || columns % block != 0) {
    return wrong(weight,
                 "of shape " + info.shape.str() + " does not fill blocks of " + std::to_string(block) + " columns");
  }
  bool bytes = scale.dtype == DType::kU8 || (block == kNvfp4Block && scale.dtype == DType::kF8E4M3);
  ScaleTiles tiles{info.shape[0], columns / block};
  bool fits = scale.shape.elements() == tiles.bytes() &&
              (scale.shape.rank() == 1 || scale.shape[0] == tiles.tiles_down() * kScaleTileRows);
  if (bytes && fits) return {};
  return wrong(layer.scale, std::string("is ") + dtype_name(scale.dtype) + " " + scale.shape.str() +
                                ", wanted a byte for " + std::to_string(block) + " columns in tiles of 128 x 4");
}

Status ScaledSource::read_floats(const std::string& name, TensorPart part, float* values) const {
  DType dtype = stored(name).dtype;
  std::vector<std::byte> raw(static_cast<size_t>(part.count) * dtype_bytes(dtype));
  LA_RETURN_IF_ERROR(file_->read_part(name, part, raw.data()));
  convert_to_f32(raw.data(), dtype, values, part.count);
  for (int64_t i = 0; i < part.count; ++i) {
    if (!std::isfinite(values[i])) return wrong(name, "is NaN or infinite");
  }
  return {};
}

Status ScaledSource::read_row_scales(const LayerFormat& layer, TensorPart rows, float* scales) const {
  if (stored(layer.scale).shape.elements() != 1) return read_floats(layer.scale, rows, scales);
  LA_RETURN_IF_ERROR(read_floats(layer.scale, {0, 1}, scales));
  std::fill_n(scales, rows.count, scales[0]);
  return {};
}

// The stored numbers themselves, without any scale.
Status ScaledSource::decode_values(const std::string& name, const LayerFormat& layer, TensorPart part,
                                   float* values) const {
  DType dtype = stored(name).dtype;
  int64_t in_element = layer.format == WeightFormat::kNvfp4 ? 2 : 1;
  std::array<std::byte, kChunk * sizeof(double)> raw;
  LA_CHECK(part.first % in_element == 0 && part.count % in_element == 0);
  for (int64_t at = 0; at < part.count; at += kChunk) {
    int64_t count = std::min(kChunk, part.count - at);
    LA_RETURN_IF_ERROR(file_->read_part(name, {(part.first + at) / in_element, count / in_element}, raw.data()));
    if (in_element == 1) {
      convert_to_f32(raw.data(), dtype, values + at, count);
      continue;
    }
    for (int64_t i = 0; i < count; i += 2) {  // the even column is the high nibble
      auto pair = static_cast<uint8_t>(raw[static_cast<size_t>(i / 2)]);
      values[at + i] = decode_e2m1(pair >> 4);
      values[at + i + 1] = decode_e2m1(pair & 15);
    }
  }
  return {};
}

Status ScaledSource::multiply_rows(const std::string& name, const LayerFormat& layer, TensorPart part,
                                   float* values) const {
  int64_t row = std::max<int64_t>(1, row_elements(tensors_.at(name).shape)), first = part.first / row;
  int64_t rows = part.count == 0 ? 0 : (part.first + part.count - 1) / row - first + 1;
  std::vector<float> scales(static_cast<size_t>(std::max<int64_t>(rows, 1)));
  LA_RETURN_IF_ERROR(read_row_scales(layer, {first, rows}, scales.data()));
  for (int64_t i = 0; i < part.count; ++i) values[i] *= scales[static_cast<size_t>((part.first + i) / row - first)];
  return {};
}

Status ScaledSource::multiply_blocks(const std::string& name, const LayerFormat& layer, TensorPart part,
                                     float* values) const {
  bool nvfp4 = layer.format == WeightFormat::kNvfp4;
  int64_t columns = tensors_.at(name).shape[1], block = nvfp4 ? kNvfp4Block : kMxfp8Block;
  LA_CHECK(part.first % columns == 0 && part.count % columns == 0);
  float whole = 1;
  if (nvfp4) LA_RETURN_IF_ERROR(read_floats(layer.scale_2, {0, 1}, &whole));
  ScaleTiles tiles{tensors_.at(name).shape[0], columns / block};
  std::vector<uint8_t> band(static_cast<size_t>(tiles.band_bytes()));
  int64_t loaded = -1;
  for (int64_t i = 0; i < part.count / columns; ++i) {
    int64_t row = part.first / columns + i, wanted = row / kScaleTileRows;
    if (wanted != loaded)
      LA_RETURN_IF_ERROR(file_->read_part(layer.scale, {wanted * tiles.band_bytes(), tiles.band_bytes()}, band.data()));
    loaded = wanted;
    for (int64_t c = 0; c < columns / block; ++c) {
      uint8_t bits = band[static_cast<size_t>(tiles.offset_in_band(row, c))];
      float scale = nvfp4 ? whole * to_f32(f8e4m3{bits}) : decode_e8m0(bits);
      if (!std::isfinite(scale)) return wrong(layer.scale, "has a block scale that is NaN");
      for (int64_t k = 0; k < block; ++k) values[i * columns + c * block + k] *= scale;
    }
  }
  return {};
}

Status ScaledSource::multiply_columns(const std::string& name, const LayerFormat& layer, TensorPart part,
                                      float* values) const {
  int64_t columns = tensors_.at(name).shape[1];
  std::vector<float> factors(static_cast<size_t>(columns));
  LA_RETURN_IF_ERROR(read_floats(layer.pre_quant_scale, {0, columns}, factors.data()));
  for (int64_t i = 0; i < part.count; ++i) values[i] *= factors[static_cast<size_t>((part.first + i) % columns)];
  return {};
}

Status ScaledSource::read_part(const std::string& name, TensorPart part, void* target) const {
  auto found = layers_.find(name);
  if (found == layers_.end()) return file_->read_part(name, part, target);
  const LayerFormat& layer = found->second;
  auto* values = static_cast<float*>(target);
  LA_RETURN_IF_ERROR(decode_values(name, layer, part, values));
  if (layer.format == WeightFormat::kScaled) LA_RETURN_IF_ERROR(multiply_rows(name, layer, part, values));
  if (layer.format == WeightFormat::kMxfp8 || layer.format == WeightFormat::kNvfp4)
    LA_RETURN_IF_ERROR(multiply_blocks(name, layer, part, values));
  for (int64_t i = 0; layer.rotation_group > 0 && i < part.count; i += layer.rotation_group)
    rotate_hadamard({values + i, static_cast<size_t>(layer.rotation_group)});
  if (!layer.pre_quant_scale.empty()) return multiply_columns(name, layer, part, values);
  return {};
}

Status ScaledSource::read_quantised(const std::string& name, TensorPart rows, uint8_t* quantised, float* scales) const {
  int64_t columns = tensors_.at(name).shape[1];
  LA_RETURN_IF_ERROR(file_->read_part(name, {rows.first * columns, rows.count * columns}, quantised));
  auto layer = layers_.find(name);
  if (layer != layers_.end()) return read_row_scales(layer->second, rows, scales);
  std::fill_n(scales, rows.count, 1.0f);
  return {};
}

}  // namespace

Expected<TensorSourcePtr> apply_scales(TensorSourcePtr file) {
  auto source = std::make_shared<ScaledSource>(std::move(file));
  LA_RETURN_IF_ERROR(source->open());
  return TensorSourcePtr(source);
}

}  // namespace liveavatar
