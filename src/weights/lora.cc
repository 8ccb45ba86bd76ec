// LoRA adapters (PEFT names) merged as tensors are read: W + (alpha / rank) * B A, in f32, never rounded here.
#include <algorithm>
#include <vector>

#include "weights/tensor_source.h"

namespace liveavatar {
namespace {

struct Target {
  std::string a, b;  // adapter tensors, [rank, in] and [out, rank]
};

// What an adapter tensor is: which base tensor it belongs to, and as what.
struct Parsed {
  enum class Role { kA, kB, kOverride } role = Role::kOverride;
  std::string base;
};

void drop(std::string& text, const std::string& part) {
  if (size_t at = text.find(part); at != std::string::npos) text.erase(at, part.size());
}

// Optional prefix base_model.model., optional infix .default, optional .base_layer; all occur in the wild.
Parsed parse_name(std::string name) {
  Parsed parsed;
  if (name.starts_with("base_model.model.")) name.erase(0, std::string("base_model.model.").size());
  drop(name, ".base_layer");
  for (auto [tag, role] : {std::pair(".lora_A", Parsed::Role::kA), std::pair(".lora_B", Parsed::Role::kB)}) {
    if (size_t at = name.find(tag); at != std::string::npos) {
      parsed.role = role;
      parsed.base = name.substr(0, at) + ".weight";
      return parsed;
    }
  }
  parsed.base = name;
  return parsed;
}

Status read_f32(const TensorSource& source, const std::string& name, TensorPart part, std::vector<float>& values) {
  DType dtype = source.tensors().at(name).dtype;
  std::vector<std::byte> raw(static_cast<size_t>(part.count) * dtype_bytes(dtype));
  LA_RETURN_IF_ERROR(source.read_part(name, part, raw.data()));
  values.resize(static_cast<size_t>(part.count));
  convert_to_f32(raw.data(), dtype, values.data(), part.count);
  return {};
}

class MergedSource : public TensorSource {
 public:
  MergedSource(TensorSourcePtr base, TensorSourcePtr adapter, float alpha)
      : base_(std::move(base)), adapter_(std::move(adapter)), alpha_(alpha), tensors_(base_->tensors()) {}

  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return base_->where() + " with " + adapter_->where(); }

  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    auto merge = targets_.find(name);
    auto overwrite = overrides_.find(name);
    const TensorSource& from = overwrite == overrides_.end() ? *base_ : *adapter_;
    const std::string& from_name = overwrite == overrides_.end() ? name : overwrite->second;
    if (merge == targets_.end()) return from.read_part(from_name, part, target);
    const Shape& a_shape = adapter_->tensors().at(merge->second.a).shape;
    int64_t rank = a_shape[0], in = a_shape[1], rows = part.count / in;
    LA_CHECK(part.first % in == 0 && part.count % in == 0);
    std::vector<float> w, a, b;  // [rows, in], [rank, in], [rows, rank]
    LA_RETURN_IF_ERROR(read_f32(from, from_name, part, w));
    LA_RETURN_IF_ERROR(read_f32(*adapter_, merge->second.a, {0, rank * in}, a));
    LA_RETURN_IF_ERROR(read_f32(*adapter_, merge->second.b, {part.first / in * rank, rows * rank}, b));
    float scale = alpha_ / static_cast<float>(rank);
    std::vector<float> delta(static_cast<size_t>(in));
    for (int64_t o = 0; o < rows; ++o) {
      std::fill(delta.begin(), delta.end(), 0.0f);
      for (int64_t r = 0; r < rank; ++r) {
        float factor = b[static_cast<size_t>(o * rank + r)];
        const float* row = a.data() + r * in;
        for (int64_t i = 0; i < in; ++i) delta[static_cast<size_t>(i)] += factor * row[i];
      }
      float* to = w.data() + o * in;
      for (int64_t i = 0; i < in; ++i) to[i] += scale * delta[static_cast<size_t>(i)];
    }
    std::copy(w.begin(), w.end(), static_cast<float*>(target));
    return {};
  }

  Status match(LoraMerge& counts) {
    for (const auto& [name, info] : adapter_->tensors()) {
      Parsed parsed = parse_name(name);
      auto base = tensors_.find(parsed.base);
      if (base == tensors_.end()) {
        return corrupt(adapter_->where() + ": tensor " + name + " fits nothing in " + base_->where() + " (no " +
                       parsed.base + "); is it made for another model?");
      }
      if (parsed.role == Parsed::Role::kOverride) {
        if (!(info.shape == base->second.shape)) return misfit(name, info.shape, base->second.shape);
        overrides_[parsed.base] = name;
      } else {
        (parsed.role == Parsed::Role::kA ? targets_[parsed.base].a : targets_[parsed.base].b) = name;
      }
    }
    for (const auto& [name, target] : targets_) LA_RETURN_IF_ERROR(check_target(name, target));
    for (const auto& [name, from] : overrides_) {
      if (!targets_.contains(name)) tensors_[name].dtype = adapter_->tensors().at(from).dtype;
    }
    counts.merged = static_cast<int>(targets_.size());
    counts.overwritten = static_cast<int>(overrides_.size());
    return {};
  }

 private:
  Status misfit(const std::string& name, const Shape& got, const Shape& want) const {
    return corrupt(adapter_->where() + ": tensor " + name + " has shape " + got.str() + ", which does not fit " +
                   want.str());
  }
  Status check_target(const std::string& name, const Target& target) {
    if (target.a.empty() || target.b.empty()) {
      return corrupt(adapter_->where() + ": " + name + " has only one of lora_A and lora_B; the file is incomplete");
    }
    const Shape& a = adapter_->tensors().at(target.a).shape;
    const Shape& b = adapter_->tensors().at(target.b).shape;
    const Shape& w = tensors_[name].shape;
    if (a.rank() != 2 || b.rank() != 2 || w.rank() != 2 || a[0] < 1 || a[0] != b[1] || a[1] != w[1] || b[0] != w[0]) {
      return misfit(target.a, a, w);
    }
    tensors_[name].dtype = DType::kF32;
    return {};
  }

  TensorSourcePtr base_, adapter_;
  float alpha_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, Target> targets_;
  std::map<std::string, std::string> overrides_;  // base name to adapter name
};

}  // namespace

Expected<LoraMerge> merge_lora(TensorSourcePtr base, TensorSourcePtr adapter, float alpha) {
  auto merged = std::make_shared<MergedSource>(std::move(base), std::move(adapter), alpha);
  LoraMerge result;
  LA_RETURN_IF_ERROR(merged->match(result));
  result.source = merged;
  return result;
}

}  // namespace liveavatar
