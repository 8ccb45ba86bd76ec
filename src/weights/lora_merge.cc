#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>

#include "core/rounding.h"
#include "weights/lora_edit.h"

namespace liveavatar {
namespace {

constexpr double kMaxStrength = 1000;  // more is a mistake, and may overflow
constexpr size_t kPageBytes = 4096;

// Memory for the merge of one tensor, in addition to W. With a dry-run Arena only its size.
struct MergeMemory {
  std::byte* raw;  // a chunk of the base's or an adapter's tensor, in the file's type
  float* values;   // a chunk of replacement or added values
  std::vector<LoraFactors> terms;

  MergeMemory(const LoraEdit& edit, const TensorInfo& base, const TensorSource& adapter, Arena& arena) {
    size_t raw_bytes = lora_chunk_bytes(base);
    for (const std::string* tensor : {&edit.values, &edit.diff}) {
      if (!tensor->empty()) raw_bytes = std::max(raw_bytes, lora_chunk_bytes(adapter.tensors().at(*tensor)));
    }
    for (const LoraTerm& term : edit.terms) raw_bytes = std::max(raw_bytes, lora_chunk_bytes(adapter, term));
    raw = static_cast<std::byte*>(arena.allocate(raw_bytes));
    const bool whole = !edit.values.empty() || !edit.diff.empty();
    values = static_cast<float*>(
        arena.allocate(whole ? static_cast<size_t>(lora_chunk(base.shape)) * sizeof(float) : size_t{0}));
    for (const LoraTerm& term : edit.terms) terms.emplace_back(term, base.shape.elements() / base.shape[0], arena);
  }
};

class MergedSource : public TensorSource {
 public:
  MergedSource(TensorSourcePtr base, LoraAdapter adapter)
      : base_(std::move(base)), adapter_(std::move(adapter)), tensors_(base_->tensors()) {}

  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return base_->where() + " with " + adapter_.source->where(); }
  std::string metadata(const std::string& key) const override { return base_->metadata(key); }
  Status read_part(const std::string& name, TensorPart part, void* target) const override;
  Status read_quantised(const std::string& name, TensorPart rows, uint8_t* quantised, float* scales) const override {
    return base_->read_quantised(name, rows, quantised, scales);
  }
  size_t scratch_bytes() const override { return scratch_bytes_ + base_->scratch_bytes(); }

  Status match(LoraReport& report);

 private:
  Expected<std::map<std::string, LoraParts>> sort_tensors() const;
  // Replaced completely with nothing added: read directly from the adapter.
  bool replaces(const LoraEdit& edit) const {
    return !edit.values.empty() && edit.terms.empty() && edit.diff.empty() && adapter_.strength == 1;
  }
  Status begin(const std::string& name, const LoraEdit& edit) const;
  Status merge_piece(const std::string& name, const LoraEdit& edit, TensorPart part, float* w) const;

  TensorSourcePtr base_;
  LoraAdapter adapter_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, LoraEdit> edits_;
  size_t scratch_bytes_ = 0;  // of the largest merge
  // State of the tensor that was read last, so that its factors are read once. The reader has charged its memory
  // (scratch_bytes), so its own budget has no limit.
  struct Work {
    std::mutex mutex;
    Budget budget;
    Arena arena;
    std::string name;
    std::optional<MergeMemory> memory;
  };
  mutable Work work_;
};

Status MergedSource::begin(const std::string& name, const LoraEdit& edit) const {
  if (work_.memory.has_value() && work_.name == name) return {};
  work_.memory.reset();
  if (work_.arena.dry_run()) {
    LA_ASSIGN_OR_RETURN(work_.arena, Arena::allocate(work_.budget, MemoryCategory::kWeights, scratch_bytes_));
  }
  work_.arena.restart();
  MergeMemory memory(edit, base_->tensors().at(name), *adapter_.source, work_.arena);
  for (LoraFactors& term : memory.terms) LA_RETURN_IF_ERROR(term.read(*adapter_.source, memory.raw));
  work_.name = name;
  work_.memory = std::move(memory);
  return {};
}

Status MergedSource::merge_piece(const std::string& name, const LoraEdit& edit, TensorPart part, float* w) const {
  MergeMemory& memory = *work_.memory;
  const TensorSource& adapter = *adapter_.source;
  const float strength = static_cast<float>(adapter_.strength);
  LA_RETURN_IF_ERROR(base_->read_part(name, part, memory.raw));
  convert_to_f32(memory.raw, base_->tensors().at(name).dtype, w, part.count);
  const float* values = memory.values;
  if (!edit.values.empty()) {
    LA_RETURN_IF_ERROR(read_lora_part(adapter, edit.values, part, memory.raw, memory.values));
    for (int64_t i = 0; i < part.count; ++i) w[i] = strength == 1 ? values[i] : w[i] + strength * (values[i] - w[i]);
  }
  for (LoraFactors& term : memory.terms) term.add(part, w);
  if (!edit.diff.empty()) {
    LA_RETURN_IF_ERROR(read_lora_part(adapter, edit.diff, part, memory.raw, memory.values));
    for (int64_t i = 0; i < part.count; ++i) w[i] += strength * values[i];
  }
  return {};
}

Status MergedSource::read_part(const std::string& name, TensorPart part, void* target) const {
  auto found = edits_.find(name);
  if (found == edits_.end()) return base_->read_part(name, part, target);
  const LoraEdit& edit = found->second;
  if (replaces(edit)) return adapter_.source->read_part(edit.values, part, target);
  std::lock_guard<std::mutex> lock(work_.mutex);
  LA_RETURN_IF_ERROR(begin(name, edit));
  const int64_t piece = lora_chunk(base_->tensors().at(name).shape);
  for (int64_t at = 0; at < part.count; at += piece) {
    const TensorPart some{part.first + at, std::min(piece, part.count - at)};
    LA_RETURN_IF_ERROR(merge_piece(name, edit, some, static_cast<float*>(target) + at));
  }
  return {};
}

// Every adapter tensor under the base tensor it belongs to.
Expected<std::map<std::string, LoraParts>> MergedSource::sort_tensors() const {
  const LoraTargets targets(tensors_);
  std::map<std::string, LoraParts> sorted;
  for (const auto& [tensor, info] : adapter_.source->tensors()) {
    const std::string what = adapter_.source->where() + ": tensor " + tensor;
    LoraName name = parse_lora_name(tensor);
    if (name.refused != nullptr) {
      return unsupported(what + " cannot be merged: " + name.refused +
                         "; take a plain LoRA, or merge the adapter into the checkpoint where it was trained");
    }
    std::string base = targets.find(name);
    if (base.empty())
      return corrupt(what + " fits nothing in " + base_->where() + "; is the adapter made for another model?");
    auto [at, added] = sorted[base].emplace(name.role, tensor);
    if (!added) return corrupt(what + " and " + at->second + " are the same part of " + base + "; the file is damaged");
  }
  return sorted;
}

Status MergedSource::match(LoraReport& report) {
  report.where = adapter_.source->where();
  report.strength = adapter_.strength;
  if (!(std::fabs(adapter_.strength) <= kMaxStrength))
    return invalid_argument(report.where + ": a LoRA's strength must be a number from -1000 to 1000");
  LA_ASSIGN_OR_RETURN(auto sorted, sort_tensors());
  if (sorted.empty()) return corrupt(report.where + ": holds no tensors; it is no LoRA adapter");
  for (const auto& [name, parts] : sorted) {
    TensorInfo& info = tensors_.at(name);
    LA_ASSIGN_OR_RETURN(LoraEdit edit, make_lora_edit(adapter_, name, info.shape, parts, report));
    info.dtype = replaces(edit) ? adapter_.source->tensors().at(edit.values).dtype : DType::kF32;
    info.quantised = DType::kF32;  // edited tensors are not the base's quantised values
    info.stored = nullptr;
    if (!replaces(edit)) {
      Arena size;
      MergeMemory(edit, base_->tensors().at(name), *adapter_.source, size);
      scratch_bytes_ = std::max(scratch_bytes_, round_up(size.used_bytes(), kPageBytes));
    }
    edits_[name] = std::move(edit);
  }
  return {};
}

}  // namespace

Expected<LoraMerge> merge_lora(TensorSourcePtr base, LoraAdapter adapter) {
  auto merged = std::make_shared<MergedSource>(std::move(base), std::move(adapter));
  LoraMerge result;
  LA_RETURN_IF_ERROR(merged->match(result.report));
  result.source = merged;
  return result;
}

Expected<LoraMerges> merge_loras(TensorSourcePtr base, std::vector<LoraAdapter> adapters) {
  LoraMerges result;
  result.source = std::move(base);
  for (LoraAdapter& adapter : adapters) {
    LA_ASSIGN_OR_RETURN(LoraMerge merge, merge_lora(result.source, std::move(adapter)));
    result.source = std::move(merge.source);
    result.reports.push_back(std::move(merge.report));
  }
  return result;
}

}  // namespace liveavatar
