// Who visits a model's weights (weights/visitor.h): WeightLoader reads and packs them, WeightSizer counts the memory of
// that to the byte, WeightViews looks at packed ones again.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/memory.h"
#include "weights/visitor.h"

namespace liveavatar {

// Memory of somebody else that packed weights lie in, piece behind piece. Without an address only their size is known.
class WeightPage {
 public:
  WeightPage() = default;
  WeightPage(std::byte* data, Device device) : data_(data), device_(device) {}
  explicit WeightPage(const Buffer& page) : WeightPage(page.data(), page.device()) {}
  std::byte* take(size_t bytes);
  size_t used_bytes() const { return used_bytes_; }
  Device device() const { return device_; }

 private:
  std::byte* data_ = nullptr;  // 64-byte aligned
  Device device_;
  size_t used_bytes_ = 0;
};

// Shapes of the weights, and where each lies in a page that was packed before.
class WeightViews final : public WeightVisitor {
 public:
  // Without a page nothing has an address: for what is asked(), and the bytes() that a page will need.
  WeightViews(const Backend& backend, WeightTypes types, WeightPage page = WeightPage())
      : WeightVisitor(backend, types), page_(page) {}
  size_t bytes() const { return page_.used_bytes(); }

 private:
  Tensor read(const std::string& name, const Shape& shape, TensorPart rows) override;
  std::byte* pack_matrix(const std::string& name, const Shape& shape, TensorPart rows, DType dtype) override;
  std::byte* pack(size_t bytes, const Fill&) override { return page_.take(bytes); }
  Device device() const override { return page_.device(); }

  WeightPage page_;
};

// Those who give the weights memory: packed bytes are charged to `category`, and so is the staging memory while the
// visitor lives. backend and budget outlive it and the weights.
class WeightAllocator : public WeightVisitor {
 public:
  // From here on packed bytes lie in `page`, from its front on, instead of in memory of their own.
  void place_in(const WeightPage& page) { page_ = page; }
  // The memory of everything handed out that has its own; move it into the model.
  std::vector<Buffer> take_buffers() { return std::move(buffers_); }

 protected:
  // scratch_bytes: what the source of the values takes beside them.
  WeightAllocator(const Backend& backend, Budget& budget, MemoryCategory category, WeightTypes types,
                  size_t scratch_bytes);
  // Room for packed weights: null after an error, and over a dry-run budget.
  std::byte* take(size_t bytes);
  // Room to read this many values in rows of `row`: as f32, and behind them one piece as it lies in the file.
  bool stage(int64_t elements, int64_t row);
  // Host memory of so many bytes, with anything in it. False: there is none.
  bool grow(Buffer& memory, size_t bytes);
  Device device() const override { return page_ ? page_->device() : budget_.device(); }

  Budget& budget_;
  Buffer staging_;

 private:
  MemoryCategory category_;
  Charge scratch_;
  std::optional<WeightPage> page_;
  std::vector<Buffer> buffers_;
  size_t block_used_bytes_ = 0;
};

// Reads every tensor out of a source, checks it and packs it.
class WeightLoader final : public WeightAllocator {
 public:
  // source may die after loading.
  WeightLoader(const TensorSource& source, const Backend& backend, Budget& budget, MemoryCategory category,
               WeightTypes types)
      : WeightAllocator(backend, budget, category, types, source.scratch_bytes()), source_(source) {}
  // Names in the source that nobody asked for.
  std::vector<std::string> unused() const;

 private:
  Tensor read(const std::string& name, const Shape& shape, TensorPart rows) override;
  std::byte* pack_matrix(const std::string& name, const Shape& shape, TensorPart rows, DType dtype) override;
  std::byte* pack(size_t bytes, const Fill& fill) override;
  bool check(const std::string& name, const Shape& shape);
  bool pack_stored_codes(const std::string& name, TensorPart rows, int64_t k, std::byte* target);
  // fill(host) makes `bytes` that are to lie at `memory`: there, or in host memory from where they are written.
  void write(std::byte* memory, size_t bytes, const Fill& fill);

  const TensorSource& source_;
  Buffer packing_;  // what is on its way to a device that is not the host
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
  std::byte* pack(size_t bytes, const Fill&) override { return take(bytes); }
};

}  // namespace liveavatar
