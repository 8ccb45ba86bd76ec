// UMT5 encoder: the prompt's embedding for the video model. Source: UMT5 (arXiv 2304.09151), a T5 with a position table
// in each layer. A prompt is encoded once, so weights are streamed: a layer is read, run and overwritten by the next.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "weights/loader.h"

namespace liveavatar {

// XXL: dim 4096, 24 layers, 64 heads of 64, ffn 10240, 256384 ids, 32 buckets. All read from the tensors.
struct Umt5Config {
  int64_t dim = 0, attention_dim = 0, ffn_dim = 0, vocabulary = 0, heads = 0, layers = 0, buckets = 0;
};

struct Umt5LayerWeights {
  Tensor norm1, norm2;           // f32 [D]
  LinearWeight q, k, v, o;       // [A, D] x 3, [D, A]
  LinearWeight gate, up, down;   // [ffn, D] x 2, [D, ffn]
  std::vector<float> positions;  // [buckets, heads]; of the host
};

// Sizes from the shapes of the checkpoint's tensors.
Expected<Umt5Config> read_umt5_config(const TensorSource& source);
// Buffers of one pass over `tokens` tokens; over a dry-run Arena only their size.
struct Umt5Activations {
  Tensor x;                     // f32 [T, D]
  Tensor y, q, k, v, attended;  // [T, D], [T, A] x 4
  Tensor gate, up;              // [T, ffn] x 2
  Tensor bias;                  // f32 [heads, T, T]
  Tensor distances;             // f32 [heads, 2T - 1], a head's bias by key - query
  Umt5Activations(const Umt5Config& config, int64_t tokens, DType dtype, Arena& arena);
};

// Memory of one pass over `tokens` tokens: scratch, activations and one layer's weights (text), and the output rows
// (conditioning).
struct Umt5Memory {
  Arena arena;
  Buffer page;
  OwnedTensor rows;  // [tokens, D] f32
  static Expected<Umt5Memory> allocate(const Umt5Config& config, int64_t tokens, DType dtype, Backend& backend,
                                       Budget& budget);
};

// Called for each group of weights in `page`, which is valid during the call. All optional.
struct Umt5Visitor {
  std::function<void(int64_t token, const Tensor& row)> embedding;  // f32 [1, D]
  std::function<void(const Umt5LayerWeights&)> layer;
  std::function<void(const Tensor& weight)> norm;  // f32 [D]
  std::stop_token stop;                            // checked between layers
};
// Loads every tensor by its name in the checkpoint, in the order of a pass.
Status stream_umt5(const Umt5Config& config, std::span<const int32_t> ids, WeightAllocator& loader, const Buffer& page,
                   const Umt5Visitor& visitor);

// distance = key position - query position -> row of the position table. Max distance 128, both directions.
int64_t position_bucket(int64_t distance, int64_t buckets);

class Umt5 {
 public:
  // Reads only sizes: encode() reads the weights. Source and backend outlive the model.
  static Expected<std::unique_ptr<Umt5>> load(const TensorSource& weights, Backend& backend, DType dtype);
  // Of this config and without weights, to count the memory of encode().
  static std::unique_ptr<Umt5> dry_run(const Umt5Config& config, Backend& backend, DType dtype);
  int64_t dim() const { return config_.dim; }
  const Umt5Config& config() const { return config_; }

  // ids of the real tokens (EOS included) -> [tokens, D] f32. Padding is never computed: masked keys change nothing.
  // Error: no ids, an id outside the table, or a read error. stop is checked between layers. Over a dry-run budget
  // nothing is read or computed.
  Expected<OwnedTensor> encode(std::span<const int32_t> ids, Budget& budget, const std::stop_token& stop = {});

 private:
  Umt5(const TensorSource* source, Backend& backend, DType dtype) : source_(source), backend_(backend), dtype_(dtype) {}
  Status check_ids(std::span<const int32_t> ids) const;
  void layer(const Umt5LayerWeights& w, Umt5Activations& a);
  void fill_bias(std::span<const float> positions, Umt5Activations& a);

  const TensorSource* source_;  // null: a dry run
  Backend& backend_;
  DType dtype_;
  Umt5Config config_;
};

}  // namespace liveavatar
