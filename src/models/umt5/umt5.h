// UMT5 encoder: the prompt's rows for the video model. Source: UMT5 (arXiv 2304.09151), a T5 with a position table a
// layer.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/memory.h"
#include "ops/backend.h"
#include "weights/loader.h"

namespace liveavatar {

// XXL: dim 4096, 24 layers, 64 heads of 64, ffn 10240, 256384 ids, 32 buckets. All read from the tensors.
struct Umt5Config {
  int64_t dim = 0, attention_dim = 0, ffn_dim = 0, vocabulary = 0, heads = 0, layers = 0, buckets = 0;
};

struct Umt5LayerWeights {
  Tensor norm1, norm2;          // f32 [D]
  LinearWeight q, k, v, o;      // [A, D] x 3, [D, A]
  LinearWeight gate, up, down;  // [ffn, D] x 2, [D, ffn]
  Tensor positions;             // f32 [buckets, heads]
};

struct Umt5Weights {
  Tensor embedding;  // [vocabulary, D]
  std::vector<Umt5LayerWeights> layers;
  Tensor norm;  // f32 [D]
  std::vector<Buffer> buffers;
};

// Sizes from the shapes of the checkpoint's tensors.
Expected<Umt5Config> read_umt5_config(const TensorSource& source);
// Takes every tensor by the original's name.
Expected<Umt5Weights> load_umt5_weights(const Umt5Config& config, WeightLoader& loader);

// Buffers of one pass over `tokens` tokens; over a measuring Arena only their size.
struct Umt5Activations {
  Tensor x;                     // f32 [T, D]
  Tensor y, q, k, v, attended;  // [T, D], [T, A] x 4
  Tensor gate, up;              // [T, ffn] x 2
  Tensor bias;                  // f32 [heads, T, T]
  Tensor distances;             // f32 [2T - 1], a head's bias by key - query
  Umt5Activations(const Umt5Config& config, int64_t tokens, DType dtype, Arena& arena);
};

// Memory of one pass over `tokens` tokens: scratch, activations (text) and the rows that come out (conditioning).
struct Umt5Memory {
  Arena arena;
  OwnedTensor rows;  // [tokens, D] f32
  static Expected<Umt5Memory> allocate(const Umt5Config& config, int64_t tokens, DType dtype, Backend& backend,
                                       Budget& budget);
};

// distance = key position - query position -> row of the position table. Max distance 128, both directions.
int64_t position_bucket(int64_t distance, int64_t buckets);

class Umt5 {
 public:
  // backend and budget outlive the model; weights may die after loading.
  static Expected<std::unique_ptr<Umt5>> load(const TensorSource& weights, Backend& backend, Budget& budget,
                                              DType dtype);
  int64_t dim() const { return config_.dim; }
  const Umt5Config& config() const { return config_; }

  // ids of the real tokens (EOS included) -> [tokens, D] f32. Padding is never computed: masked keys change nothing.
  // Error: no ids, or an id beyond the table.
  Expected<OwnedTensor> encode(std::span<const int32_t> ids);

 private:
  Umt5(Backend& backend, Budget& budget, DType dtype) : backend_(backend), budget_(budget), dtype_(dtype) {}
  void layer(const Umt5LayerWeights& w, Umt5Activations& a);
  void fill_bias(const Tensor& positions, Umt5Activations& a);

  Backend& backend_;
  Budget& budget_;
  DType dtype_;
  Umt5Config config_;
  Umt5Weights weights_;
};

}  // namespace liveavatar
