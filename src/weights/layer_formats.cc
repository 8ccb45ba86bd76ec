#include "weights/layer_formats.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "weights/block_formats.h"

namespace liveavatar {
namespace {

using nlohmann::json;
constexpr std::string_view kWeight = ".weight", kScaleOld = ".scale_weight", kScaleNew = ".weight_scale",
                           kScale2 = ".weight_scale_2", kPreQuantScale = ".pre_quant_scale",
                           kComfyQuant = ".comfy_quant";
// Suffixes of companions; the last two are hints for activations.
constexpr std::array kCompanions{kScaleOld,
                                 kScaleNew,
                                 kScale2,
                                 kPreQuantScale,
                                 kComfyQuant,
                                 std::string_view(".scale_input"),
                                 std::string_view(".input_scale")};
constexpr std::string_view kMarker = "scaled_fp8", kTokenizer = "spiece_model";
constexpr const char* kMetadata = "_quantization_metadata";
constexpr int64_t kDefaultRotationGroup = 256, kMaxJsonBytes = 1 << 16;

bool is_named(const std::string& name, std::string_view last) {
  if (!name.ends_with(last)) return false;
  return name.size() == last.size() || name[name.size() - last.size() - 1] == '.';
}

// The suffix of a known companion; empty: none.
std::string_view companion_suffix(const std::string& name) {
  for (std::string_view suffix : kCompanions) {
    if (name.ends_with(suffix)) return suffix;
  }
  return {};
}

std::string layer_of(const std::string& name, std::string_view suffix) {
  return name.substr(0, name.size() - suffix.size());
}

class FormatReader {
 public:
  explicit FormatReader(const TensorSource& file);
  Expected<std::map<std::string, LayerFormat>> read();

 private:
  bool has(const std::string& name) const { return file_.tensors().contains(name); }
  Status wrong(const std::string& name, const std::string& why) const {
    return corrupt(file_.where() + ": " + name + " " + why);
  }
  Status sort_tensor(const std::string& name);
  Status check_marker(const std::string& name);
  Status read_comfy_quant(const std::string& layer);
  Status read_metadata();
  Expected<std::string> weight_named(const std::string& layer) const;
  Status apply_settings(const std::string& weight, const json& settings);
  Status set_format(const std::string& weight, const std::string& format, LayerFormat& layer);
  Status set_rotation(const std::string& weight, const json& settings, LayerFormat& layer);
  Status check_integers() const;

  const TensorSource& file_;
  std::map<std::string, LayerFormat> formats_;
  // So that no lookup goes through all tensors. Weights by their names from the end; the first weight of a type.
  std::vector<std::pair<std::string, std::string>> weights_from_end_;
  std::map<DType, std::string> first_of_type_;
};

FormatReader::FormatReader(const TensorSource& file) : file_(file) {
  for (const auto& [name, info] : file.tensors()) {
    if (!name.ends_with(kWeight)) continue;
    first_of_type_.emplace(info.dtype, name);
    weights_from_end_.emplace_back(std::string(name.rbegin(), name.rend()), name);
  }
  std::sort(weights_from_end_.begin(), weights_from_end_.end());
}

// All tensors beside a weight must be known: ignoring a scale would silently turn the video into noise.
Status FormatReader::sort_tensor(const std::string& name) {
  if (is_named(name, kTokenizer)) return {};
  if (is_named(name, kMarker)) return check_marker(name);
  std::string_view suffix = companion_suffix(name);
  if (suffix == ".scale_input" || suffix == ".input_scale") return {};
  if (!suffix.empty()) {
    std::string layer = layer_of(name, suffix), weight = layer + std::string(kWeight);
    if (!has(weight)) return wrong(name, "belongs to no weight of this file; the file is incomplete");
    LayerFormat& format = formats_[weight];
    if (suffix == kScaleOld || suffix == kScaleNew) {
      if (!format.scale.empty()) return wrong(name, "and " + format.scale + " are two scales of one weight");
      format.scale = name;
      if (format.format == WeightFormat::kPlain) format.format = WeightFormat::kScaled;
    }
    if (suffix == kScale2) format.scale_2 = name;
    if (suffix == kPreQuantScale) format.pre_quant_scale = name;
    return suffix == kComfyQuant ? read_comfy_quant(layer) : Status();
  }
  size_t dot = name.rfind('.');
  if (dot == std::string::npos) return {};
  std::string last = name.substr(dot), layer = name.substr(0, dot);
  bool beside_weight = last != kWeight && last != ".bias" && has(layer + std::string(kWeight));
  size_t inside = name.find(std::string(kWeight) + ".");  // <layer>.weight.absmax and the like
  bool below_weight = inside != std::string::npos && has(name.substr(0, inside + kWeight.size()));
  if (!beside_weight && !below_weight) return {};
  return unsupported(
      file_.where() + ": " + name +
      " stands beside a weight and is not understood: it may be a scale; take the file in another format "
      "(bf16, fp16, scaled fp8, GGUF)");
}

// Its type is that of the fp8 data; in a wider type it means e4m3.
Status FormatReader::check_marker(const std::string& name) {
  DType marker = file_.tensors().at(name).dtype;
  if (marker != DType::kF8E4M3 && marker != DType::kF8E5M2) return {};
  DType other = marker == DType::kF8E4M3 ? DType::kF8E5M2 : DType::kF8E4M3;
  auto weight = first_of_type_.find(other);
  if (weight == first_of_type_.end()) return {};
  return wrong(name, std::string("says ") + dtype_name(marker) + ", but " + weight->second + " is " +
                         dtype_name(other) + ": the file contradicts itself");
}

Status FormatReader::read_comfy_quant(const std::string& layer) {
  const std::string name = layer + std::string(kComfyQuant);
  const TensorInfo& info = file_.tensors().at(name);
  int64_t bytes = info.shape.elements();
  if (dtype_bytes(info.dtype) != 1 || bytes > kMaxJsonBytes) return wrong(name, "is not a short text");
  std::string text(static_cast<size_t>(bytes), '\0');
  LA_RETURN_IF_ERROR(file_.read(name, text.data()));
  LA_ASSIGN_OR_RETURN(const json settings, parse_json(text, file_.where() + ": " + name));
  if (!settings.is_object()) return wrong(name, "is not a JSON object; download the file again");
  return apply_settings(layer + std::string(kWeight), settings);
}

// Layer names may lack the prefix that the tensors have.
Expected<std::string> FormatReader::weight_named(const std::string& layer) const {
  const std::string weight = layer + std::string(kWeight);
  if (has(weight)) return weight;
  const std::string from_end = std::string(weight.rbegin(), weight.rend()) + ".";
  auto first = std::lower_bound(weights_from_end_.begin(), weights_from_end_.end(), std::pair(from_end, std::string()));
  auto is_it = [&](auto at) { return at != weights_from_end_.end() && at->first.starts_with(from_end); };
  if (!is_it(first)) return wrong(kMetadata, "names the layer " + layer + ", which is not in the file");
  if (auto second = std::next(first); is_it(second))
    return wrong(kMetadata, "names " + layer + ", which may be " + first->second + " or " + second->second);
  return first->second;
}

Status FormatReader::read_metadata() {
  std::string text = file_.metadata(kMetadata);
  if (text.empty()) return {};
  LA_ASSIGN_OR_RETURN(const json settings, parse_json(text, file_.where() + ": " + kMetadata));
  if (!settings.is_object() || (settings.contains("layers") && !settings["layers"].is_object()))
    return wrong(kMetadata, "is not a JSON object with layers; download the file again");
  const json layers = settings.value("layers", json::object());
  for (const auto& [layer, one] : layers.items()) {
    LA_ASSIGN_OR_RETURN(std::string weight, weight_named(layer));
    if (!one.is_object()) return wrong(kMetadata, "says nothing of the format of " + layer);
    LA_RETURN_IF_ERROR(apply_settings(weight, one));
  }
  return {};
}

Status FormatReader::apply_settings(const std::string& weight, const json& settings) {
  if (!settings.contains("format") || !settings["format"].is_string())
    return wrong(weight, "has quantisation settings that name no format");
  LayerFormat& layer = formats_[weight];
  LA_RETURN_IF_ERROR(set_format(weight, settings["format"], layer));
  LA_RETURN_IF_ERROR(set_rotation(weight, settings, layer));
  bool nested = settings.contains("params") && settings["params"].is_object();
  return nested ? set_rotation(weight, settings["params"], layer) : Status();
}

Status FormatReader::set_format(const std::string& weight, const std::string& format, LayerFormat& layer) {
  struct Known {
    const char* name;
    DType stored;
    WeightFormat format;
  };
  constexpr Known kKnown[] = {{"float8_e4m3fn", DType::kF8E4M3, WeightFormat::kScaled},
                              {"float8_e5m2", DType::kF8E5M2, WeightFormat::kScaled},
                              {"int8_tensorwise", DType::kI8, WeightFormat::kScaled},
                              {"mxfp8", DType::kF8E4M3, WeightFormat::kMxfp8},
                              {"nvfp4", DType::kU8, WeightFormat::kNvfp4}};
  DType stored = file_.tensors().at(weight).dtype;
  for (const Known& known : kKnown) {
    if (format != known.name) continue;
    layer.format = known.format;
    if (stored == known.stored) return {};
    return wrong(weight, std::string("is ") + dtype_name(stored) + ", which format " + format + " is not");
  }
  return unsupported(file_.where() + ": " + weight + " has the format " + format +
                     ", which is not read here; take the file in bf16, fp16, scaled fp8, int8, mxfp8 or nvfp4");
}

Status FormatReader::set_rotation(const std::string& weight, const json& settings, LayerFormat& layer) {
  if (!settings.contains("convrot")) return {};
  if (!settings["convrot"].is_boolean()) return wrong(weight, "has a setting convrot that is neither true nor false");
  if (!settings["convrot"].get<bool>()) return {};
  layer.rotation_group = kDefaultRotationGroup;
  if (settings.contains("convrot_groupsize")) {
    const json& group = settings["convrot_groupsize"];
    if (!group.is_number_integer()) return wrong(weight, "has a convrot_groupsize that is no whole number");
    layer.rotation_group = group.get<int64_t>();
  }
  const Shape& shape = file_.tensors().at(weight).shape;
  int64_t columns = shape.rank() == 2 ? shape[1] : 0;
  if (!is_power_of_4(layer.rotation_group) || columns % layer.rotation_group != 0 || columns == 0) {
    return wrong(weight, "of shape " + shape.str() + " is rotated in groups of " +
                             std::to_string(layer.rotation_group) +
                             ", which is no power of 4 or does not divide its columns");
  }
  return {};
}

// Whole numbers mean nothing by themselves.
Status FormatReader::check_integers() const {
  for (const auto& [name, info] : file_.tensors()) {
    bool integer = info.dtype == DType::kI8 || info.dtype == DType::kU8 || info.dtype == DType::kI16 ||
                   info.dtype == DType::kI32 || info.dtype == DType::kI64 || info.dtype == DType::kBool;
    if (!integer || !name.ends_with(kWeight)) continue;
    auto format = formats_.find(name);
    if (format == formats_.end() || format->second.format == WeightFormat::kPlain)
      return wrong(name, std::string("is ") + dtype_name(info.dtype) + " without a scale; nothing says what it means");
    if (info.dtype == DType::kU8 && format->second.format != WeightFormat::kNvfp4)
      return wrong(name, "is U8 in a format that is not named; nothing says what it means");
  }
  return {};
}

Expected<std::map<std::string, LayerFormat>> FormatReader::read() {
  for (const auto& [name, info] : file_.tensors()) LA_RETURN_IF_ERROR(sort_tensor(name));
  LA_RETURN_IF_ERROR(read_metadata());
  LA_RETURN_IF_ERROR(check_integers());
  for (const auto& [weight, layer] : formats_) {
    bool blocks = layer.format == WeightFormat::kMxfp8 || layer.format == WeightFormat::kNvfp4;
    if (layer.format != WeightFormat::kPlain && layer.scale.empty()) return wrong(weight, "has no weight_scale");
    if (layer.format == WeightFormat::kNvfp4 && layer.scale_2.empty()) return wrong(weight, "has no weight_scale_2");
    if (layer.format != WeightFormat::kNvfp4 && !layer.scale_2.empty())
      return wrong(layer.scale_2, "belongs to a weight that is not nvfp4");
    if (blocks && layer.rotation_group > 0) return wrong(weight, "is rotated and in blocks, which is not read here");
  }
  return std::move(formats_);
}

}  // namespace

Expected<std::map<std::string, LayerFormat>> read_layer_formats(const TensorSource& file) {
  return FormatReader(file).read();
}

bool is_companion(const TensorSource& file, const std::string& name) {
  if (is_named(name, kMarker) || is_named(name, kTokenizer)) return true;
  std::string_view suffix = companion_suffix(name);
  if (suffix.empty()) return false;
  bool hint = suffix == ".scale_input" || suffix == ".input_scale";
  return hint || file.tensors().contains(layer_of(name, suffix) + std::string(kWeight));
}

}  // namespace liveavatar
