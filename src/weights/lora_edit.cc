#include "weights/lora_edit.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "weights/squeezed.h"

namespace liveavatar {
namespace {

constexpr int64_t kMaxRank = 16384;  // of factors: more than any layer has columns

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF64 ||
         dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2;
}

// Converts the parts of one base tensor to a LoraEdit. Keeps the first error.
class EditBuilder {
 public:
  EditBuilder(const LoraAdapter& adapter, std::string name, Shape shape, const LoraParts& parts, LoraReport& report)
      : adapter_(adapter), name_(std::move(name)), shape_(shape), parts_(parts), report_(report) {}

  Expected<LoraEdit> build();

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
  const LoraParts& parts_;
  LoraReport& report_;
  LoraEdit edit_;
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

// An alpha without factors, which some trainers write with a difference, is checked too.
Status EditBuilder::check_alpha() const {
  if (!has(LoraRole::kAlpha)) return {};
  const std::string& alpha = part(LoraRole::kAlpha);
  if (shape_of(alpha).elements() != 1)
    return corrupt(where() + "tensor " + alpha + " has shape " + shape_of(alpha).str() + ", wanted one value");
  if (parts_.size() == 1)
    return corrupt(where() + "tensor " + alpha + " scales nothing: its factors are missing; the file is incomplete");
  return alpha_value().status();
}

Expected<LoraEdit> EditBuilder::build() {
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

}  // namespace

Expected<LoraEdit> make_lora_edit(const LoraAdapter& adapter, const std::string& name, const Shape& shape,
                                  const LoraParts& parts, LoraReport& report) {
  return EditBuilder(adapter, name, shape, parts, report).build();
}

}  // namespace liveavatar
