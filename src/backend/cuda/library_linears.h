// The linear layers of a backend that a library computes: those where linear_proof.h found it right and quicker.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "backend/cuda/linear_proof.h"
#include "core/memory.h"

namespace liveavatar {

struct BackendOptions;

namespace cuda {

class LibraryLinears {
 public:
  LibraryLinears(CudaDevice& device, const BackendOptions& options);

  // Finds out how each of these is computed best, or reads it from disk: before the first block, when nothing else runs
  // on the stream. What it takes of the budget (kRuntime) depends on the sizes alone, so that a plan is right with and
  // without a library.
  Status reserve(std::span<const LinearSize> hot, void* stream);
  void release();

  // False: the library does not compute it, and the own kernel has to.
  bool enqueue(const LinearCall& call, void* stream);

  bool in_use() const;           // for one class at least
  std::string describe() const;  // "; ..."; empty before reserve()
  const std::vector<LinearChoice>& choices() const { return choices_; }

 private:
  bool is_known(const LinearClass& c) const;
  void keep(const LinearClass& c, LinearChoice choice);
  bool open_library();
  Status reserve_scratch(size_t bytes, bool has_library);
  std::vector<LinearClass> not_kept(const std::vector<LinearClass>& classes);
  Status prove_all(const std::vector<LinearClass>& classes, size_t operand_bytes, void* stream);

  CudaDevice& device_;
  bool tune_;
  std::string choice_file_;
  Budget host_, outside_;
  Budget& budget_;
  Buffer scratch_;
  Charge as_planned_;
  std::unique_ptr<LinearLibrary> library_;  // null: not opened, or there is none
  std::string why_none_;
  std::vector<LinearClass> classes_;  // as choices_
  std::vector<LinearChoice> choices_;
};

}  // namespace cuda
}  // namespace liveavatar
