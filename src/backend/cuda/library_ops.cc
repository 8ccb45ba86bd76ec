#include "backend/cuda/library_ops.h"

#include <algorithm>

#include "backend/backend.h"
#include "backend/cuda/choice_file.h"
#include "backend/cuda/conv_by_library.h"
#include "backend/cuda/conv_proof.h"
#include "backend/cuda/linear_by_library.h"
#include "backend/cuda/linear_proof.h"
#include "core/rounding.h"

namespace liveavatar::cuda {
namespace {

// Each once.
template <typename Kind>
std::vector<typename Kind::Class> library_classes(std::span<const typename Kind::Size> sizes) {
  std::vector<typename Kind::Class> classes;
  for (const auto& size : sizes) {
    const std::optional<typename Kind::Class> c = library_class(size);
    if (c && std::find(classes.begin(), classes.end(), *c) == classes.end()) classes.push_back(*c);
  }
  return classes;
}

// For any of them, in a Buffer.
template <typename Class>
size_t most(const std::vector<Class>& classes, const Allocator& allocator, size_t (*bytes)(const Class&)) {
  size_t result = 0;
  for (const Class& c : classes) result = std::max(result, bytes(c));
  return allocator.taken_bytes(result);
}

}  // namespace

template <typename Kind>
LibraryOps<Kind>::LibraryOps(CudaDevice& device, const BackendOptions& options)
    : device_(device),
      tune_(options.tune),
      choice_file_(options.choices_file),
      outside_(Budget::kUnlimited, device, host_),
      budget_(options.budget == nullptr ? outside_ : *options.budget) {}

template <typename Kind>
Status LibraryOps<Kind>::reserve(std::span<const typename Kind::Size> hot, void* stream) {
  const std::vector<Class> classes = library_classes<Kind>(hot);
  if (!tune_ || classes.empty()) return {};
  const bool has_library = !budget_.dry_run() && open_library();
  reserve_scratch(most(classes, device_, library_scratch_bytes), has_library);
  ++users_;
  const size_t operand_bytes = most(classes, device_, proof_bytes);
  std::vector<Class> open;
  if (has_library) open = not_kept(classes);
  if (!open.empty()) return prove_all(open, operand_bytes, stream);
  const Expected<Charge> as_planned = Charge::acquire(budget_, MemoryCategory::kRuntime, operand_bytes);
  return {};
}

// Without a library it is charged alone, since it is in the plan. Beside other videos there may be no more: then it
// stays as it was, and what needs more is computed by our kernels.
template <typename Kind>
void LibraryOps<Kind>::reserve_scratch(size_t bytes, bool has_library) {
  const size_t before = scratch_.bytes() + as_planned_.bytes();
  if (bytes <= before) return;
  free_scratch();  // first: both together would raise the peak
  if (!take_scratch(bytes, has_library)) take_scratch(before, has_library);
}

template <typename Kind>
bool LibraryOps<Kind>::take_scratch(size_t bytes, bool has_library) {
  if (has_library) {
    Expected<Buffer> scratch = Buffer::allocate(budget_, MemoryCategory::kRuntime, bytes);
    if (scratch.ok()) scratch_ = *std::move(scratch);
    return scratch.ok();
  }
  Expected<Charge> charge = Charge::acquire(budget_, MemoryCategory::kRuntime, bytes);
  if (charge.ok()) as_planned_ = *std::move(charge);
  return charge.ok();
}

template <typename Kind>
void LibraryOps<Kind>::end_use() {
  users_ = std::max(users_ - 1, 0);
  if (users_ == 0) release();
}

template <typename Kind>
void LibraryOps<Kind>::release() {
  users_ = 0;
  free_scratch();
}

template <typename Kind>
void LibraryOps<Kind>::free_scratch() {
  scratch_ = Buffer();
  as_planned_ = Charge();
}

template <typename Kind>
bool LibraryOps<Kind>::is_known(const Class& c) const {
  return std::find(classes_.begin(), classes_.end(), c) != classes_.end();
}

template <typename Kind>
void LibraryOps<Kind>::keep(const Class& c, LibraryChoice choice) {
  classes_.push_back(c);
  choices_.push_back(std::move(choice));
}

template <typename Kind>
bool LibraryOps<Kind>::open_library() {
  if (library_ != nullptr) return true;
  Expected<std::unique_ptr<typename Kind::Library>> opened = Kind::open(device_.runtime());
  if (opened.ok()) {
    library_ = *std::move(opened);
  } else {
    why_none_ = opened.status().message();
  }
  return library_ != nullptr;
}

// Those that are found neither in memory nor on disk.
template <typename Kind>
auto LibraryOps<Kind>::not_kept(const std::vector<Class>& classes) -> std::vector<Class> {
  std::vector<Class> open;
  const std::vector<LibraryChoice> kept =
      ChoiceFile(choice_file_, device_.runtime().card(), Kind::kKey, library_->name()).read();
  for (const Class& c : classes) {
    if (is_known(c)) continue;
    const std::string what = cuda::describe(c);
    const auto at = std::find_if(kept.begin(), kept.end(), [&](const LibraryChoice& k) { return k.what == what; });
    if (at == kept.end()) {
      open.push_back(c);
    } else {
      keep(c, *at);
    }
  }
  return open;
}

template <typename Kind>
Status LibraryOps<Kind>::prove_all(const std::vector<Class>& classes, size_t operand_bytes, void* stream) {
  const Expected<Buffer> operands = Buffer::allocate(budget_, MemoryCategory::kRuntime, operand_bytes);
  if (!operands.ok()) return {};  // beside other videos there may be none left: a later one tries
  std::vector<LibraryChoice> found;
  for (const Class& c : classes) {
    found.push_back(prove(c, *library_, device_, stream, operands->data(), scratch_.data()));
    LA_RETURN_IF_ERROR(device_.status());
    keep(c, found.back());
  }
  // Where it cannot be written the next job finds it out again.
  const Status written = ChoiceFile(choice_file_, device_.runtime().card(), Kind::kKey, library_->name()).add(found);
  return {};
}

template <typename Kind>
bool LibraryOps<Kind>::enqueue(const typename Kind::Call& call, void* stream) {
  if (scratch_.bytes() == 0 || device_.failed()) return false;
  const std::optional<Class> c = library_class(call);
  if (!c || library_scratch_bytes(*c) > scratch_.bytes()) return false;
  const auto at = std::find(classes_.begin(), classes_.end(), *c);
  if (at == classes_.end()) return false;
  LibraryChoice& choice = choices_[static_cast<size_t>(at - classes_.begin())];
  if (!choice.by_library) return false;
  const Status status = enqueue_by_library(*library_, *c, call, scratch_.data(), device_, stream);
  if (status.ok()) return true;
  choice.by_library = false;
  choice.why = "refused in a job: " + status.message();
  return false;
}

template <typename Kind>
bool LibraryOps<Kind>::in_use() const {
  return std::any_of(choices_.begin(), choices_.end(), [](const LibraryChoice& c) { return c.by_library; });
}

template <typename Kind>
std::string LibraryOps<Kind>::describe() const {
  if (!why_none_.empty()) return std::string("; no library for ") + Kind::kName + ": " + why_none_;
  if (library_ == nullptr) return "";
  const auto count =
      std::count_if(choices_.begin(), choices_.end(), [](const LibraryChoice& c) { return c.by_library; });
  return "; " + library_->name() + " for " + std::to_string(count) + " of " + std::to_string(choices_.size()) +
         " kinds of " + Kind::kName;
}

template class LibraryOps<LinearKind>;
template class LibraryOps<ConvKind>;

}  // namespace liveavatar::cuda
