// Visitors of a model's weights (weights/visitor.h): WeightLoader reads and packs them, WeightSizer counts the memory
// of that to the byte, WeightViews makes views of packed weights.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/memory.h"
#include "weights/visitor.h"

namespace liveavatar {

// A bump allocator for packed weights in memory that it does not own. Without memory it only counts.
class PackedMemory {
 public:
  PackedMemory() = default;
  PackedMemory(std::byte* data, Device device) : data_(data), device_(device) {}
  explicit PackedMemory(const Buffer& page) : PackedMemory(page.data(), page.device()) {}
  std::byte* allocate(size_t bytes);
  size_t used_bytes() const { return used_bytes_; }
  Device device() const { return device_; }

 private:
  std::byte* data_ = nullptr;  // 64-byte aligned
  Device device_;
  size_t used_bytes_ = 0;
};

// Views of weights in a page that was packed before.
class WeightViews final : public WeightVisitor {
 public:
  // Without memory the views have no address: for asked(), and for the bytes() that a page needs.
  WeightViews(const Backend& backend, WeightTypes types, PackedMemory packed = PackedMemory())
      : WeightVisitor(backend, types), packed_(packed) {}
  size_t bytes() const { return packed_.used_bytes(); }

 private:
  Tensor read(const std::string& name, const Shape& shape, TensorPart rows) override;
  std::byte* pack_matrix(const std::string& name, const Shape& shape, TensorPart rows, DType dtype) override;
  std::byte* pack(size_t bytes, const Fill&) override { return packed_.allocate(bytes); }
  Device device() const override { return packed_.device(); }

  PackedMemory packed_;
};

// Base of the visitors that allocate memory for weights. Packed bytes are charged to `category`, and so is the staging
// memory until the visitor is destroyed. backend and budget outlive it and the weights.
class WeightAllocator : public WeightVisitor {
 public:
  // From here on packed weights are placed in `packed`, not in new buffers.
  void place_in(const PackedMemory& packed) { packed_ = packed; }
  // The buffers of the weights; move them into the model.
  std::vector<Buffer> take_buffers() { return std::move(buffers_); }

 protected:
  // scratch_bytes: memory of the tensor source while it reads.
  WeightAllocator(const Backend& backend, Budget& budget, MemoryCategory category, WeightTypes types,
                  size_t scratch_bytes);
  // Memory for packed weights: null after an error, and over a dry-run budget.
  std::byte* allocate(size_t bytes);
  // Staging memory to read `elements` values in rows of `row`: as f32, then one chunk in the file's type.
  bool stage(int64_t elements, int64_t row);
  // Grows host memory to `bytes`; the content is lost. False: out of memory.
  bool grow(Buffer& memory, size_t bytes);
  // Host memory packing_ for `bytes` on their way to the weights' device; none if that is the host. False: out of
  // memory.
  bool stage_packed(size_t bytes) { return device().is_host() || grow(packing_, bytes); }
  Device device() const override { return packed_ ? packed_->device() : budget_.device(); }

  Budget& budget_;
  Buffer staging_, packing_;

 private:
  MemoryCategory category_;
  Charge scratch_;
  std::optional<PackedMemory> packed_;
  std::vector<Buffer> buffers_;
  size_t block_used_bytes_ = 0;
};

// Reads every tensor out of a source, checks it and packs it.
class WeightLoader final : public WeightAllocator {
 public:
  // source may be destroyed after loading.
  WeightLoader(const TensorSource& source, const Backend& backend, Budget& budget, MemoryCategory category,
               WeightTypes types)
      : WeightAllocator(backend, budget, category, types, source.scratch_bytes()), source_(source) {}
  // Names in the source that were not requested.
  std::vector<std::string> unused() const;

 private:
  Tensor read(const std::string& name, const Shape& shape, TensorPart rows) override;
  std::byte* pack_matrix(const std::string& name, const Shape& shape, TensorPart rows, DType dtype) override;
  std::byte* pack(size_t bytes, const Fill& fill) override;
  bool check(const std::string& name, const Shape& shape);
  bool pack_stored_quantised(const std::string& name, TensorPart rows, int64_t k, std::byte* target);
  // fill(host) makes `bytes` for `memory`: in place if that is host memory, else in staging memory that is then copied.
  void write(std::byte* memory, size_t bytes, const Fill& fill);

  const TensorSource& source_;
};

// The same memory at the same times over a dry-run budget, of tensors that are all taken to be there; nothing is
// read or packed.
class WeightSizer final : public WeightAllocator {
 public:
  WeightSizer(const Backend& backend, Budget& dry_run, MemoryCategory category, WeightTypes types,
              size_t scratch_bytes = 0)
      : WeightAllocator(backend, dry_run, category, types, scratch_bytes) {
    LA_CHECK(dry_run.dry_run());
  }

 private:
  Tensor read(const std::string& name, const Shape& shape, TensorPart rows) override;
  std::byte* pack_matrix(const std::string& name, const Shape& shape, TensorPart rows, DType dtype) override;
  std::byte* pack(size_t bytes, const Fill&) override;
};

}  // namespace liveavatar
