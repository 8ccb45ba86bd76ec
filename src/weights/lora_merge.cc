#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <mutex>

#include "core/rounding.h"
#include "weights/lora.h"
#include "weights/lora_delta.h"
#include "weights/lora_names.h"

namespace liveavatar {
namespace {

// What an adapter does to one base tensor, in this order.
struct Edit {
  std::string values;           // adapter tensor in W's place, or empty
  std::vector<LoraTerm> terms;  // low-rank terms
  std::string diff;             // adapter tensor to add, or empty
};

// The adapter's tensors that belong to one base tensor.
using Parts = std::map<LoraRole, std::string>;

// Without dimensions of 1, which a squeezed or an unsqueezed file has less or more of.
Shape squeezed(const Shape& shape, int from = 0) {
  Shape out;
  for (int i = from; i < shape.rank(); ++i) {
    if (shape[i] != 1) out.push_back(shape[i]);
  }
  return out;
}

constexpr double kMaxStrength = 1000;  // more is a mistake, and may overflow
constexpr int64_t kMaxRank = 16384;    // of factors: more than any layer has columns
constexpr size_t kPageBytes = 4096;

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF64 ||
         dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2;
}

// Turns the parts of one base tensor into an Edit; the first thing that is wrong sticks.
class EditBuilder {
 public:
  EditBuilder(const LoraAdapter& adapter, std::string name, Shape shape, const Parts& parts, LoraReport& report)
      : adapter_(adapter), name_(std::move(name)), shape_(shape), parts_(parts), report_(report) {}

  Expected<Edit> build();

 private:
  bool has(LoraRole role) const { return parts_.contains(role); }
  const std::string& part(LoraRole role) const { return parts_.at(role); }
  const Shape& shape_of(const std::string& tensor) const { return adapter_.source->tensors().at(tensor).shape; }
  std::string where() const { return adapter_.source->where() + ": "; }
  int64_t columns() const { return shape_.elements() / shape_[0]; }

  Status misfit(const std::string& tensor) const {
    return corrupt(where() + "tensor " + tensor + " has shape " + shape_of(tensor).str() + ", which does not fit " +
                   name_ + " " + shape_.str() + "; is the adapter made for another model?");
  }
  Status check_whole(const std::string& tensor) const {
    return squeezed(shape_of(tensor)) == squeezed(shape_) ? Status() : misfit(tensor);
  }
  Status check_dtypes() const;
  Status check_alpha() const;
  Expected<double> alpha_value() const;
  Status add_pair();
  Status add_loha();
  Status add_lokr();
  Status add_term(LoraTerm term, int64_t rank);
  Expected<LoraMatrix> matrix(const std::string& tensor) const;
  Expected<LoraMatrix> product(LoraRole left, LoraRole right) const;
  Expected<LoraMatrix> lokr_matrix(LoraRole whole, LoraRole left, LoraRole right) const;
  Expected<double> factor(int64_t rank);

  const LoraAdapter& adapter_;
  std::string name_;
  Shape shape_;
  const Parts& parts_;
  LoraReport& report_;
  Edit edit_;
};

Expected<LoraMatrix> EditBuilder::matrix(const std::string& tensor) const {
  const Shape& shape = shape_of(tensor);
  if (shape.rank() < 2 || shape.elements() < 1) return misfit(tensor);
  return LoraMatrix{tensor, "", shape[0], shape.elements() / shape[0], 0};
}

Expected<LoraMatrix> EditBuilder::product(LoraRole left, LoraRole right) const {
  if (!has(left) || !has(right)) {
    const std::string& there = has(left) ? part(left) : has(right) ? part(right) : parts_.begin()->second;
    return corrupt(where() + "tensor " + there + " is one of a pair and the other is missing; the file is incomplete");
  }
  LA_ASSIGN_OR_RETURN(LoraMatrix a, matrix(part(left)));
  LA_ASSIGN_OR_RETURN(LoraMatrix b, matrix(part(right)));
  if (a.columns != b.rows) {
    return corrupt(where() + "tensors " + a.left + " " + shape_of(a.left).str() + " and " + b.left + " " +
                   shape_of(b.left).str() + " have different ranks; the file is damaged");
  }
  if (b.rows > kMaxRank) {
    return corrupt(where() + "tensor " + b.left + " " + shape_of(b.left).str() + " has a rank beyond " +
                   std::to_string(kMaxRank) + "; the file is damaged");
  }
  return LoraMatrix{a.left, b.left, a.rows, b.columns, b.rows};
}

// alpha / rank: the file's, PEFT's config's, or the caller's alpha; 1 without any.
Expected<double> EditBuilder::factor(int64_t rank) {
  report_.rank.add(rank);
  const double ranks = static_cast<double>(rank);
  double alpha = ranks, divisor = ranks;
  bool given = true;
  if (has(LoraRole::kAlpha)) {
    LA_ASSIGN_OR_RETURN(alpha, alpha_value());
  } else if (adapter_.peft.has_value()) {
    const std::string tensor = parts_.begin()->second;
    std::string module = parse_lora_name(tensor).module;
    if (module.starts_with(kPeftPrefix)) module.erase(0, std::string(kPeftPrefix).size());
    if (double wanted = adapter_.peft->rank_of(module); wanted != ranks) {
      char text[32];
      std::snprintf(text, sizeof(text), "%g", wanted);
      return corrupt(where() + "tensor " + tensor + " has rank " + std::to_string(rank) +
                     ", adapter_config.json says " + text + "; the two do not belong together");
    }
    alpha = adapter_.peft->alpha_of(module);
    if (adapter_.peft->root_of_rank) divisor = std::sqrt(ranks);
  } else if (adapter_.alpha.has_value()) {
    alpha = *adapter_.alpha;
  } else {
    given = false;
  }
  if (given) report_.alpha.add(alpha);
  report_.factor.add(alpha / divisor);
  return alpha / divisor;
}

// rank 0: a term that no alpha scales.
Status EditBuilder::add_term(LoraTerm term, int64_t rank) {
  double scale = 1;
  if (rank > 0) {
    LA_ASSIGN_OR_RETURN(scale, factor(rank));
  } else {
    report_.factor.add(1);
  }
  scale *= adapter_.strength;
  if (std::fabs(scale) > std::numeric_limits<float>::max()) {
    return corrupt(where() + name_ + " would be scaled beyond what f32 holds; its alpha or the strength is wrong");
  }
  term.scale = static_cast<float>(scale);
  edit_.terms.push_back(std::move(term));
  return {};
}

Status EditBuilder::add_pair() {
  LA_ASSIGN_OR_RETURN(LoraMatrix m, product(LoraRole::kUp, LoraRole::kDown));
  if (m.rows != shape_[0]) return misfit(m.left);
  // A kernel may be given as such or flattened.
  const Shape& down = shape_of(m.right);
  if (m.columns != columns() || (down.rank() > 2 && !(squeezed(down, 1) == squeezed(shape_, 1))))
    return misfit(m.right);
  const int64_t rank = m.inner;
  return add_term({LoraTerm::Kind::kMatrix, std::move(m), {}}, rank);
}

Status EditBuilder::add_loha() {
  LA_ASSIGN_OR_RETURN(LoraMatrix first, product(LoraRole::kHadaW1A, LoraRole::kHadaW1B));
  LA_ASSIGN_OR_RETURN(LoraMatrix second, product(LoraRole::kHadaW2A, LoraRole::kHadaW2B));
  for (const LoraMatrix& m : {first, second}) {
    if (m.rows != shape_[0]) return misfit(m.left);
    if (m.columns != columns()) return misfit(m.right);
  }
  const int64_t rank = first.inner;
  return add_term({LoraTerm::Kind::kElementwise, std::move(first), std::move(second)}, rank);
}

Expected<LoraMatrix> EditBuilder::lokr_matrix(LoraRole whole, LoraRole left, LoraRole right) const {
  const bool factored = has(left) || has(right);
  if (has(whole) && factored) {
    return corrupt(where() + "tensor " + part(whole) + " is there whole and as factors; the file is damaged");
  }
  if (factored) return product(left, right);
  if (has(whole)) return matrix(part(whole));
  return corrupt(where() + "tensor " + parts_.begin()->second +
                 " is one of two Kronecker factors and the other is missing; the file is incomplete");
}

Status EditBuilder::add_lokr() {
  LA_ASSIGN_OR_RETURN(LoraMatrix first, lokr_matrix(LoraRole::kLokrW1, LoraRole::kLokrW1A, LoraRole::kLokrW1B));
  LA_ASSIGN_OR_RETURN(LoraMatrix second, lokr_matrix(LoraRole::kLokrW2, LoraRole::kLokrW2A, LoraRole::kLokrW2B));
  if (shape_[0] % first.rows != 0 || shape_[0] / first.rows != second.rows || columns() % first.columns != 0 ||
      columns() / first.columns != second.columns)
    return misfit(first.left);
  // The rank that scales is the second's where that is a product.
  const int64_t rank = second.inner > 0 ? second.inner : first.inner;
  return add_term({LoraTerm::Kind::kKronecker, std::move(first), std::move(second)}, rank);
}

Status EditBuilder::check_dtypes() const {
  for (const auto& [role, tensor] : parts_) {
    DType dtype = adapter_.source->tensors().at(tensor).dtype;
    if (is_float(dtype) || role == LoraRole::kAlpha) continue;
    return unsupported(where() + "tensor " + tensor + " has dtype " + dtype_name(dtype) +
                       ", an adapter's must be a float; take the adapter in bf16 or f32");
  }
  return {};
}

Expected<double> EditBuilder::alpha_value() const {
  std::byte raw[sizeof(double)];
  float value = 0;
  LA_RETURN_IF_ERROR(read_lora_part(*adapter_.source, part(LoraRole::kAlpha), {0, 1}, raw, &value));
  return double{value};
}

// An alpha without factors, as some trainers write beside a difference, must be right too.
Status EditBuilder::check_alpha() const {
  if (!has(LoraRole::kAlpha)) return {};
  const std::string& alpha = part(LoraRole::kAlpha);
  if (shape_of(alpha).elements() != 1)
    return corrupt(where() + "tensor " + alpha + " has shape " + shape_of(alpha).str() + ", wanted one value");
  if (parts_.size() == 1)
    return corrupt(where() + "tensor " + alpha + " scales nothing: its factors are missing; the file is incomplete");
  return alpha_value().status();
}

Expected<Edit> EditBuilder::build() {
  LA_RETURN_IF_ERROR(check_dtypes());
  LA_RETURN_IF_ERROR(check_alpha());
  auto has_any = [&](LoraRole low, LoraRole high) {
    return std::any_of(parts_.begin(), parts_.end(), [&](const auto& p) { return low <= p.first && p.first <= high; });
  };
  const bool pair = has_any(LoraRole::kDown, LoraRole::kUp), loha = has_any(LoraRole::kHadaW1A, LoraRole::kHadaW2B),
             lokr = has_any(LoraRole::kLokrW1, LoraRole::kLokrW2B);
  if ((pair || loha || lokr) && (shape_.rank() < 2 || shape_.elements() < 1)) return misfit(parts_.begin()->second);
  if (pair) LA_RETURN_IF_ERROR(add_pair());
  if (loha) LA_RETURN_IF_ERROR(add_loha());
  if (lokr) LA_RETURN_IF_ERROR(add_lokr());
  for (auto [role, target] : {std::pair(LoraRole::kValues, &edit_.values), std::pair(LoraRole::kDiff, &edit_.diff)}) {
    if (!has(role)) continue;
    *target = part(role);
    LA_RETURN_IF_ERROR(check_whole(*target));
  }
  report_.merged += edit_.terms.empty() ? 0 : 1;
  report_.added += edit_.diff.empty() ? 0 : 1;
  report_.overwritten += edit_.values.empty() ? 0 : 1;
  return edit_;
}

// What the merge of one tensor takes beside W; over a measuring Arena only its size.
struct MergeMemory {
  std::byte* raw;  // a piece of the base's tensor or an adapter's, as it lies in the file
  float* values;   // a piece of what replaces or is added
  std::vector<LoraFactors> terms;

  MergeMemory(const Edit& edit, const TensorInfo& base, const TensorSource& adapter, Arena& arena) {
    size_t raw_bytes = lora_piece_bytes(base);
    for (const std::string* tensor : {&edit.values, &edit.diff}) {
      if (!tensor->empty()) raw_bytes = std::max(raw_bytes, lora_piece_bytes(adapter.tensors().at(*tensor)));
    }
    for (const LoraTerm& term : edit.terms) raw_bytes = std::max(raw_bytes, lora_piece_bytes(adapter, term));
    raw = static_cast<std::byte*>(arena.take(raw_bytes));
    const bool whole = !edit.values.empty() || !edit.diff.empty();
    values = static_cast<float*>(
        arena.take(whole ? static_cast<size_t>(lora_piece(base.shape)) * sizeof(float) : size_t{0}));
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
  Status read_codes(const std::string& name, TensorPart rows, uint8_t* codes, float* scales) const override {
    return base_->read_codes(name, rows, codes, scales);
  }
  size_t scratch_bytes() const override { return scratch_bytes_ + base_->scratch_bytes(); }

  Status match(LoraReport& report);

 private:
  Expected<std::map<std::string, Parts>> sort_tensors() const;
  // Replaced as a whole and nothing added: read as it is in the adapter.
  bool replaces(const Edit& edit) const {
    return !edit.values.empty() && edit.terms.empty() && edit.diff.empty() && adapter_.strength == 1;
  }
  Status begin(const std::string& name, const Edit& edit) const;
  Status merge_piece(const std::string& name, const Edit& edit, TensorPart part, float* w) const;

  TensorSourcePtr base_;
  LoraAdapter adapter_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, Edit> edits_;
  size_t scratch_bytes_ = 0;  // of the largest merge
  // Of the tensor that was read last, so that its factors are read once for all of its parts. Who reads has charged
  // it (scratch_bytes), so its own budget has no limit.
  struct Work {
    std::mutex mutex;
    Budget budget;
    Arena arena;
    std::string name;
    std::optional<MergeMemory> memory;
  };
  mutable Work work_;
};

Status MergedSource::begin(const std::string& name, const Edit& edit) const {
  if (work_.memory.has_value() && work_.name == name) return {};
  work_.memory.reset();
  if (work_.arena.measuring()) {
    LA_ASSIGN_OR_RETURN(work_.arena, Arena::allocate(work_.budget, Tenant::kWeights, scratch_bytes_));
  }
  work_.arena.restart();
  MergeMemory memory(edit, base_->tensors().at(name), *adapter_.source, work_.arena);
  for (LoraFactors& term : memory.terms) LA_RETURN_IF_ERROR(term.read(*adapter_.source, memory.raw));
  work_.name = name;
  work_.memory = std::move(memory);
  return {};
}

Status MergedSource::merge_piece(const std::string& name, const Edit& edit, TensorPart part, float* w) const {
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
  const Edit& edit = found->second;
  if (replaces(edit)) return adapter_.source->read_part(edit.values, part, target);
  std::lock_guard<std::mutex> lock(work_.mutex);
  LA_RETURN_IF_ERROR(begin(name, edit));
  const int64_t piece = lora_piece(base_->tensors().at(name).shape);
  for (int64_t at = 0; at < part.count; at += piece) {
    const TensorPart some{part.first + at, std::min(piece, part.count - at)};
    LA_RETURN_IF_ERROR(merge_piece(name, edit, some, static_cast<float*>(target) + at));
  }
  return {};
}

// Every adapter tensor under the base tensor it belongs to.
Expected<std::map<std::string, Parts>> MergedSource::sort_tensors() const {
  const LoraTargets targets(tensors_);
  std::map<std::string, Parts> sorted;
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
    LA_ASSIGN_OR_RETURN(Edit edit, EditBuilder(adapter_, name, info.shape, parts, report).build());
    info.dtype = replaces(edit) ? adapter_.source->tensors().at(edit.values).dtype : DType::kF32;
    info.codes = DType::kF32;  // what is edited is no longer the base's codes
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
