// Sources of tensors: a checkpoint file, a folder of shards, or another source with an adapter merged in.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "core/tensor.h"

namespace liveavatar {

struct TensorInfo {
  Shape shape;
  DType dtype = DType::kF32;
  // If the file stores another type, which is read as dtype: its name, and its bytes in the file.
  const char* stored = nullptr;
  int64_t stored_bytes = 0;
  // The file may have merged or dropped outer dimensions: only the number and order of elements matter.
  bool loose_shape = false;
  // kI8 or kF8E4M3: rows can be read as such quantised values with a scale each (read_quantised). kF32: they cannot.
  DType quantised = DType::kF32;
};

// Elements [first, first + count) of a tensor.
struct TensorPart {
  int64_t first = 0, count = 0;
};

// Types of packed matrices: kF32 or kBF16; the large matrices of a model also kI8, kF8E4M3 or kQ4.
struct WeightTypes {
  DType values, large;
  WeightTypes(DType all) : values(all), large(all) {}
  WeightTypes(DType v, DType l) : values(v), large(l) {}
};

// Read-only access by name. Thread-safe. The files stay open. Nothing is read ahead.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // All tensors by name. Opening has checked that each is completely inside its file.
  virtual const std::map<std::string, TensorInfo>& tensors() const = 0;
  // Row-major bytes in the tensor's own dtype into target (shape x dtype bytes). name must be in tensors().
  Status read(const std::string& name, void* target) const {
    return read_part(name, {0, tensors().at(name).shape.elements()}, target);
  }
  // The same for a part, so that a large tensor need not be in memory twice. A part of a matrix (rank 2) is whole rows.
  virtual Status read_part(const std::string& name, TensorPart part, void* target) const = 0;
  // Whole rows [first, first + count) of a quantised tensor: the values as stored in the file, and each row's scale.
  // The real value is scale * stored value, in f32.
  virtual Status read_quantised(const std::string& name, TensorPart rows, uint8_t* quantised, float* scales) const;
  // A metadata string of the file. Empty: none.
  virtual std::string metadata(const std::string& key) const;
  // Memory that reads use in addition to the target, from the first read_part until the source is destroyed.
  // WeightLoader charges it. 0: a few hundred KiB at most.
  virtual size_t scratch_bytes() const { return 0; }
  // File or folder, for messages.
  virtual std::string where() const = 0;
};
using TensorSourcePtr = std::shared_ptr<const TensorSource>;

// path: one .safetensors file. Errors name the file and what is wrong (truncated, overlapping, unknown dtype).
Expected<TensorSourcePtr> open_safetensors(const std::string& path);
// dir with <stem>.safetensors, or <stem>.safetensors.index.json and its shards. Errors name the missing shard or
// tensor.
Expected<TensorSourcePtr> open_safetensors_folder(const std::string& dir, const std::string& stem);
// A PyTorch zip archive (.pth, .bin). The pickle reader knows tensors and plain containers; it can execute nothing and
// names unknown objects in its errors. Names are dictionary keys from the outside in joined by '/'; a wrapper
// ("state_dict", "model", ...) whose value is the only dictionary of tensors is unwrapped by `unwrap`.
Expected<TensorSourcePtr> open_torch(const std::string& path, bool unwrap = true);
// A GGUF file, version 2 or 3, of a Wan video model or a T5 encoder. All parts of a split file must be in its folder.
// Blocks of quantised values read as f32. Errors name the file and what is wrong (truncated, misaligned, another
// model's architecture, a type that is not read).
Expected<TensorSourcePtr> open_gguf(const std::string& path);
// Detects the format from the file's first bytes. Names and values are those of the file: weights/part.h maps them to a
// model's part.
Expected<TensorSourcePtr> open_tensors(const std::string& path);

// Synthetic weights of these names and shapes: bf16, small, finite, deterministic for a seed, generated while they are
// read. For benchmarks of model shapes without a checkpoint.
TensorSourcePtr synthetic_tensors(const std::map<std::string, Shape>& shapes, uint64_t seed);

}  // namespace liveavatar
