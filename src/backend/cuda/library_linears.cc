#include "backend/cuda/library_linears.h"

#include <algorithm>

#include "backend/backend.h"
#include "backend/cuda/choice_file.h"
#include "backend/cuda/library_call.h"
#include "core/rounding.h"

namespace liveavatar::cuda {
namespace {

std::vector<LinearClass> library_classes(std::span<const LinearSize> sizes) {
  std::vector<LinearClass> classes;
  for (const LinearSize& size : sizes) {
    const std::optional<LinearClass> c = library_class(size);
    if (c) classes.push_back(*c);
  }
  return classes;
}

// For any of them, in a Buffer.
template <typename Bytes>
size_t most(const std::vector<LinearClass>& classes, const Allocator& allocator, const Bytes& bytes) {
  size_t result = 0;
  for (const LinearClass& c : classes) result = std::max(result, bytes(c));
  return allocator.taken_bytes(result);
}

}  // namespace

LibraryLinears::LibraryLinears(CudaDevice& device, const BackendOptions& options)
    : device_(device),
      tune_(options.tune),
      choice_file_(options.choices_file),
      outside_(Budget::kUnlimited, device, host_),
      budget_(options.budget == nullptr ? outside_ : *options.budget) {}

Status LibraryLinears::reserve(std::span<const LinearSize> hot, void* stream) {
  const std::vector<LinearClass> classes = library_classes(hot);
  if (!tune_ || classes.empty()) return {};
  const bool has_library = !budget_.dry_run() && open_library();
  LA_RETURN_IF_ERROR(reserve_scratch(most(classes, device_, library_scratch_bytes), has_library));
  const size_t operand_bytes = most(classes, device_, proof_bytes);
  std::vector<LinearClass> open;
  if (has_library) open = not_kept(classes);
  if (!open.empty()) return prove_all(open, operand_bytes, stream);
  const Expected<Charge> as_planned = Charge::acquire(budget_, MemoryCategory::kRuntime, operand_bytes);
  return {};
}

// Without a library it is charged alone, since it is in the plan.
Status LibraryLinears::reserve_scratch(size_t bytes, bool has_library) {
  if (bytes <= scratch_.bytes() + as_planned_.bytes()) return {};
  release();  // first: both together would raise the peak
  if (has_library) {
    LA_ASSIGN_OR_RETURN(scratch_, Buffer::allocate(budget_, MemoryCategory::kRuntime, bytes));
  } else {
    LA_ASSIGN_OR_RETURN(as_planned_, Charge::acquire(budget_, MemoryCategory::kRuntime, bytes));
  }
  return {};
}

void LibraryLinears::release() {
  scratch_ = Buffer();
  as_planned_ = Charge();
}

bool LibraryLinears::is_known(const LinearClass& c) const {
  return std::find(classes_.begin(), classes_.end(), c) != classes_.end();
}

void LibraryLinears::keep(const LinearClass& c, LinearChoice choice) {
  classes_.push_back(c);
  choices_.push_back(std::move(choice));
}

bool LibraryLinears::open_library() {
  if (library_ != nullptr) return true;
  Libraries libraries = device_.runtime().open_libraries();
  if (libraries.linear.ok()) {
    library_ = *std::move(libraries.linear);
  } else {
    why_none_ = libraries.linear.status().message();
  }
  return library_ != nullptr;
}

// Those that are found neither in memory nor on disk.
std::vector<LinearClass> LibraryLinears::not_kept(const std::vector<LinearClass>& classes) {
  std::vector<LinearClass> open;
  const std::vector<LinearChoice> kept = ChoiceFile(choice_file_, device_.runtime().card(), library_->name()).read();
  for (const LinearClass& c : classes) {
    if (is_known(c)) continue;
    const std::string what = cuda::describe(c);
    const auto at = std::find_if(kept.begin(), kept.end(), [&](const LinearChoice& k) { return k.what == what; });
    if (at == kept.end()) {
      open.push_back(c);
    } else {
      keep(c, *at);
    }
  }
  return open;
}

Status LibraryLinears::prove_all(const std::vector<LinearClass>& classes, size_t operand_bytes, void* stream) {
  const Expected<Buffer> operands = Buffer::allocate(budget_, MemoryCategory::kRuntime, operand_bytes);
  if (!operands.ok()) {  // beside other videos there may be none left; that costs speed alone
    for (const LinearClass& c : classes)
      keep(c, {cuda::describe(c), false, 0, 0, "not tried out: " + operands.status().message()});
    return {};
  }
  std::vector<LinearChoice> found;
  for (const LinearClass& c : classes) {
    found.push_back(prove(c, *library_, device_, stream, operands->data(), scratch_.data()));
    LA_RETURN_IF_ERROR(device_.status());
    keep(c, found.back());
  }
  // Where it cannot be written the next job finds it out again.
  const Status written = ChoiceFile(choice_file_, device_.runtime().card(), library_->name()).add(found);
  return {};
}

bool LibraryLinears::enqueue(const LinearCall& call, void* stream) {
  if (scratch_.bytes() == 0 || device_.failed()) return false;
  const std::optional<LinearClass> c = library_class(call);
  if (!c || library_scratch_bytes(*c) > scratch_.bytes()) return false;
  const auto at = std::find(classes_.begin(), classes_.end(), *c);
  if (at == classes_.end()) return false;
  LinearChoice& choice = choices_[static_cast<size_t>(at - classes_.begin())];
  if (!choice.by_library) return false;
  const Status status = enqueue_by_library(*library_, *c, call, scratch_.data(), device_, stream);
  if (status.ok()) return true;
  choice.by_library = false;
  choice.why = "refused in a job: " + status.message();
  return false;
}

bool LibraryLinears::in_use() const {
  return std::any_of(choices_.begin(), choices_.end(), [](const LinearChoice& c) { return c.by_library; });
}

std::string LibraryLinears::describe() const {
  if (!why_none_.empty()) return "; no library for linear layers: " + why_none_;
  if (library_ == nullptr) return "";
  const auto count =
      std::count_if(choices_.begin(), choices_.end(), [](const LinearChoice& c) { return c.by_library; });
  return "; " + library_->name() + " for " + std::to_string(count) + " of " + std::to_string(choices_.size()) +
         " kinds of linear layers";
}

}  // namespace liveavatar::cuda
