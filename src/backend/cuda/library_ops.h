// The ops of one kind that a library computes for a backend: those where a trial found it right and quicker (trial.h).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "backend/cuda/conv_class.h"
#include "backend/cuda/device.h"
#include "backend/cuda/library_choice.h"
#include "backend/cuda/linear_class.h"
#include "core/memory.h"

namespace liveavatar {

struct BackendOptions;

namespace cuda {

// Kinds of ops. A class has library_class(), describe(), library_scratch_bytes(), proof_bytes(), prove() and
// enqueue_by_library().
struct LinearKind {
  using Size = LinearSize;
  using Call = LinearCall;
  using Class = LinearClass;
  using Library = LinearLibrary;
  static constexpr const char* kKey = "linear";  // in the file of choices
  static constexpr const char* kName = "linear layers";
  static Expected<std::unique_ptr<Library>> open(Runtime& runtime) { return runtime.open_linear_library(); }
};
struct ConvKind {
  using Size = VideoConvSize;
  using Call = ConvCall;
  using Class = ConvClass;
  using Library = ConvLibrary;
  static constexpr const char* kKey = "conv";
  static constexpr const char* kName = "convolutions";
  static Expected<std::unique_ptr<Library>> open(Runtime& runtime) { return runtime.open_conv_library(); }
};

template <typename Kind>
class LibraryOps {
 public:
  LibraryOps(CudaDevice& device, const BackendOptions& options);

  // Finds out how each of these is computed best, or reads it from disk: before the first block, when nothing else runs
  // on the stream. What it takes of the budget (kRuntime) depends on the sizes alone, so that a plan is right with and
  // without a library.
  Status reserve(std::span<const typename Kind::Size> hot, void* stream);
  void end_use();  // of what one reserve() took; the last one releases it
  void release();

  // False: the library does not compute it, and the own kernel has to.
  bool enqueue(const typename Kind::Call& call, void* stream);

  bool in_use() const;           // for one class at least
  std::string describe() const;  // "; ..."; empty before reserve()
  const std::vector<LibraryChoice>& choices() const { return choices_; }

 private:
  using Class = typename Kind::Class;

  bool is_known(const Class& c) const;
  void keep(const Class& c, LibraryChoice choice);
  bool open_library();
  void free_scratch();
  void reserve_scratch(size_t bytes, bool has_library);
  bool take_scratch(size_t bytes, bool has_library);
  std::vector<Class> not_kept(const std::vector<Class>& classes);
  Status prove_all(const std::vector<Class>& classes, size_t operand_bytes, void* stream);

  CudaDevice& device_;
  bool tune_;
  std::string choice_file_;
  Budget host_, outside_;
  Budget& budget_;
  Buffer scratch_;
  Charge as_planned_;
  int users_ = 0;
  std::unique_ptr<typename Kind::Library> library_;  // null: not opened, or there is none
  std::string why_none_;
  std::vector<Class> classes_;  // as choices_
  std::vector<LibraryChoice> choices_;
};

extern template class LibraryOps<LinearKind>;
extern template class LibraryOps<ConvKind>;

}  // namespace cuda
}  // namespace liveavatar
