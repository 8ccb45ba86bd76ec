// Where tensors come from: a checkpoint file, a folder of shards, or another source with something merged in.
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
  // Where the file holds something else, which reads as dtype: its name, and the bytes it takes there.
  const char* stored = nullptr;
  int64_t stored_bytes = 0;
  // The file may have merged or dropped outer dimensions: only the number and order of elements count.
  bool loose_shape = false;
  // kI8 or kF8E4M3: rows can be read as such codes with a scale each (read_codes). kF32: they cannot.
  DType codes = DType::kF32;
};

// Elements [first, first + count) of a tensor.
struct TensorPart {
  int64_t first = 0, count = 0;
};

// What matrices are packed in: kF32 or kBF16, and those that are most of a model maybe narrower (kI8, kF8E4M3, kQ4).
struct WeightTypes {
  DType values, large;
  WeightTypes(DType all) : values(all), large(all) {}
  WeightTypes(DType v, DType l) : values(v), large(l) {}
};

// Read-only, by name. Thread-safe for reading. The files stay open; nothing is read ahead.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // All tensors by name. Opening has checked that each lies wholly inside its file.
  virtual const std::map<std::string, TensorInfo>& tensors() const = 0;
  // Row-major bytes in the tensor's own dtype into target (shape x dtype bytes). name must be in tensors().
  Status read(const std::string& name, void* target) const {
    return read_part(name, {0, tensors().at(name).shape.elements()}, target);
  }
  // The same for a part, so that nobody has to hold a large tensor twice. A part of a matrix (rank 2) is whole rows.
  virtual Status read_part(const std::string& name, TensorPart part, void* target) const = 0;
  // Whole rows [first, first + count) of a tensor with codes: the codes as they lie in the file, and each row's scale.
  // value = scale * code, in f32.
  virtual Status read_codes(const std::string& name, TensorPart rows, uint8_t* codes, float* scales) const;
  // A text that the file holds beside its tensors; empty: none.
  virtual std::string metadata(const std::string& key) const;
  // Memory that reading takes beside the target, from the first read_part to the source's end: charged by who reads
  // many tensors (WeightLoader). 0: some hundred KiB at most.
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
// names what it does not know. Names are dictionary keys from the outside in joined by '/'; a wrapper
// ("state_dict", "model", ...) whose value is the only dictionary of tensors is unwrapped by `unwrap`.
Expected<TensorSourcePtr> open_torch(const std::string& path, bool unwrap = true);
// A GGUF file, version 2 or 3, of a Wan video model or a T5 encoder; with all parts of a split one, which must lie
// beside it. Blocks of quantised values read as f32. Errors name the file and what is wrong (truncated, misaligned,
// another model's architecture, a type that is not read).
Expected<TensorSourcePtr> open_gguf(const std::string& path);
// By the file's first bytes. Names and values as they lie in the file: weights/part.h makes a model's part of them.
Expected<TensorSourcePtr> open_tensors(const std::string& path);

// Tensors of these names and shapes that nobody trained: bf16, small, finite, the same for the same seed, made up as
// they are read. For measuring models that one has not got.
TensorSourcePtr made_up_tensors(const std::map<std::string, Shape>& shapes, uint64_t seed);

}  // namespace liveavatar
