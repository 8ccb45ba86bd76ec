#include "models/umt5/umt5.h"

#include <algorithm>
#include <cmath>

#include "core/stop.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/transfer.h"

namespace liveavatar {
namespace {

constexpr float kEps = 1e-6f;
constexpr int64_t kMaxDistance = 128;

// Dimension `axis` of a tensor, or 0 when it is not there.
int64_t dim_of(const TensorSource& source, const std::string& name, int axis) {
  auto it = source.tensors().find(name);
  return it == source.tensors().end() || it->second.shape.rank() <= axis ? 0 : it->second.shape[axis];
}

Umt5LayerWeights load_layer(WeightVisitor& visitor, const Umt5Config& c, int64_t i) {
  const std::string name = "blocks." + std::to_string(i) + ".";
  Umt5LayerWeights w;
  w.norm1 = visitor.vector(name + "norm1.weight", {c.dim});
  w.norm2 = visitor.vector(name + "norm2.weight", {c.dim});
  w.q = visitor.matrix(name + "attn.q.weight", c.attention_dim, c.dim);
  w.k = visitor.matrix(name + "attn.k.weight", c.attention_dim, c.dim);
  w.v = visitor.matrix(name + "attn.v.weight", c.attention_dim, c.dim);
  w.o = visitor.matrix(name + "attn.o.weight", c.dim, c.attention_dim);
  w.gate = visitor.matrix(name + "ffn.gate.0.weight", c.ffn_dim, c.dim);
  w.up = visitor.matrix(name + "ffn.fc1.weight", c.ffn_dim, c.dim);
  w.down = visitor.matrix(name + "ffn.fc2.weight", c.dim, c.ffn_dim);
  w.positions = visitor.host_vector(name + "pos_embedding.embedding.weight", {c.buckets, c.heads});
  return w;
}

// encode() reads the weights, long after loading. Report missing tensors at once.
Status check_layers(const TensorSource& source, int64_t layers) {
  auto missing = [&source](const std::string& name) {
    return not_found(source.where() + ": tensor " + name + " is missing; download the file again");
  };
  for (int64_t i = 0; i < layers; ++i) {
    for (const char* name : {"norm1", "norm2", "attn.q", "attn.k", "attn.v", "attn.o", "ffn.gate.0", "ffn.fc1",
                             "ffn.fc2", "pos_embedding.embedding"}) {
      std::string full = "blocks." + std::to_string(i) + "." + name + ".weight";
      if (!source.tensors().contains(full)) return missing(full);
    }
  }
  return source.tensors().contains("norm.weight") ? Status() : missing("norm.weight");
}

}  // namespace

Expected<Umt5Config> read_umt5_config(const TensorSource& source) {
  Umt5Config c;
  c.vocabulary = dim_of(source, "token_embedding.weight", 0);
  c.dim = dim_of(source, "token_embedding.weight", 1);
  c.attention_dim = dim_of(source, "blocks.0.attn.q.weight", 0);
  c.ffn_dim = dim_of(source, "blocks.0.ffn.fc1.weight", 0);
  c.buckets = dim_of(source, "blocks.0.pos_embedding.embedding.weight", 0);
  c.heads = dim_of(source, "blocks.0.pos_embedding.embedding.weight", 1);
  while (dim_of(source, "blocks." + std::to_string(c.layers) + ".norm1.weight", 0) > 0) ++c.layers;
  bool complete = c.vocabulary > 0 && c.dim > 0 && c.attention_dim > 0 && c.ffn_dim > 0 && c.buckets > 3 &&
                  c.heads > 0 && c.layers > 0;
  if (!complete || c.attention_dim % c.heads != 0)
    return corrupt(source.where() + ": not a UMT5 encoder with a position table a layer");
  LA_RETURN_IF_ERROR(check_layers(source, c.layers));
  return c;
}

Status stream_umt5(const Umt5Config& c, std::span<const int32_t> ids, WeightAllocator& loader, const Buffer& page,
                   const Umt5Visitor& visitor) {
  for (size_t t = 0; t < ids.size(); ++t) {
    if (ids[t] < 0 || ids[t] >= c.vocabulary) {
      return corrupt("the tokenizer gives token " + std::to_string(ids[t]) + ", the text encoder knows " +
                     std::to_string(c.vocabulary) + "; take the tokenizer that belongs to it");
    }
    Tensor row = loader.read_rows("token_embedding.weight", {c.vocabulary, c.dim}, ids[t], 1);
    LA_RETURN_IF_ERROR(loader.status());
    if (visitor.embedding) visitor.embedding(static_cast<int64_t>(t), row);
  }
  for (int64_t i = 0; i < c.layers; ++i) {
    LA_RETURN_IF_ERROR(check_stop(visitor.stop));
    loader.place_in(PackedMemory(page));
    Umt5LayerWeights w = load_layer(loader, c, i);
    LA_RETURN_IF_ERROR(loader.status());
    if (visitor.layer) visitor.layer(w);
  }
  loader.place_in(PackedMemory(page));
  Tensor norm = loader.vector("norm.weight", {c.dim});
  LA_RETURN_IF_ERROR(loader.status());
  if (visitor.norm) visitor.norm(norm);
  return {};
}

int64_t position_bucket(int64_t distance, int64_t buckets) {
  int64_t half = buckets / 2, exact = half / 2, far = std::abs(distance);
  int64_t bucket = far;
  if (far >= exact) {  // logarithmic above, in f32 as in the original
    float position = std::log(static_cast<float>(far) / static_cast<float>(exact)) /
                     static_cast<float>(std::log(double(kMaxDistance) / double(exact))) *
                     static_cast<float>(half - exact);
    bucket = std::min(half - 1, exact + static_cast<int64_t>(position));
  }
  return bucket + (distance > 0 ? half : 0);
}

Umt5Activations::Umt5Activations(const Umt5Config& c, int64_t tokens, DType dtype, Arena& arena) {
  x = arena.tensor({tokens, c.dim}, DType::kF32);
  y = arena.tensor({tokens, c.dim}, dtype);
  q = arena.tensor({tokens, c.attention_dim}, dtype);
  k = arena.tensor({tokens, c.attention_dim}, dtype);
  v = arena.tensor({tokens, c.attention_dim}, dtype);
  attended = arena.tensor({tokens, c.attention_dim}, dtype);
  gate = arena.tensor({tokens, c.ffn_dim}, dtype);
  up = arena.tensor({tokens, c.ffn_dim}, dtype);
  bias = arena.tensor({c.heads, tokens, tokens}, DType::kF32);
  distances = arena.tensor({c.heads, 2 * tokens - 1}, DType::kF32);
}

Expected<Umt5Memory> Umt5Memory::allocate(const Umt5Config& c, int64_t tokens, DType dtype, Backend& backend,
                                          Budget& budget) {
  Umt5Memory memory;
  LargestOps largest;
  largest.attention = {c.heads, c.attention_dim, tokens, dtype};
  largest.linear_k = std::max({c.dim, c.attention_dim, c.ffn_dim});
  LA_RETURN_IF_ERROR(backend.reserve(largest));
  Arena measure;
  Umt5Activations(c, tokens, dtype, measure);
  LA_ASSIGN_OR_RETURN(memory.arena, Arena::allocate(budget, MemoryCategory::kText, measure.used_bytes()));
  WeightViews layer(backend, dtype);
  load_layer(layer, c, 0);
  LA_ASSIGN_OR_RETURN(memory.page, Buffer::allocate(budget, MemoryCategory::kText, layer.bytes()));
  LA_ASSIGN_OR_RETURN(memory.rows,
                      OwnedTensor::allocate(budget, MemoryCategory::kConditioning, {tokens, c.dim}, DType::kF32));
  return memory;
}

Expected<std::unique_ptr<Umt5>> Umt5::load(const TensorSource& source, Backend& backend, DType dtype) {
  std::unique_ptr<Umt5> model(new Umt5(&source, backend, dtype));
  LA_ASSIGN_OR_RETURN(model->config_, read_umt5_config(source));
  return model;
}

std::unique_ptr<Umt5> Umt5::dry_run(const Umt5Config& config, Backend& backend, DType dtype) {
  std::unique_ptr<Umt5> model(new Umt5(nullptr, backend, dtype));
  model->config_ = config;
  return model;
}

// Each row of the bias is a window of one line over all distances, so each distance and head needs one lookup.
void Umt5::fill_bias(std::span<const float> positions, Umt5Activations& a) {
  const int64_t tokens = a.bias.dim(1);
  {
    Upload lines(backend_, a.distances);  // distances -(T - 1)..T - 1
    float* at = lines.f32();
    for (int64_t h = 0; h < config_.heads; ++h) {
      for (int64_t d = 1 - tokens; d < tokens; ++d)
        *at++ = positions[static_cast<size_t>(position_bucket(d, config_.buckets) * config_.heads + h)];
    }
  }
  ops::relative_bias(backend_, a.distances, a.bias);
}

void Umt5::layer(const Umt5LayerWeights& w, Umt5Activations& a) {
  ops::rms_norm(backend_, a.x, kEps, w.norm1, a.y);
  ops::linear(backend_, a.y, w.q, a.q);
  ops::linear(backend_, a.y, w.k, a.k);
  ops::linear(backend_, a.y, w.v, a.v);
  fill_bias(w.positions, a);
  const KeyValues keys{a.k, a.v};
  ops::attention(backend_, a.q, {&keys, 1}, {.heads = config_.heads, .scale = 1.0f, .bias = a.bias},
                 a.attended);  // QK is not scaled
  ops::linear(backend_, a.attended, w.o, a.x, {.residual = a.x});

  ops::rms_norm(backend_, a.x, kEps, w.norm2, a.y);
  ops::linear(backend_, a.y, w.gate, a.gate, {.activation = Activation::kGeluTanh});
  ops::linear(backend_, a.y, w.up, a.up);
  ops::multiply(backend_, a.up, a.gate, a.up);
  ops::linear(backend_, a.up, w.down, a.x, {.residual = a.x});
}

Status Umt5::check_ids(std::span<const int32_t> ids) const {
  if (ids.empty()) return invalid_argument("the prompt has no tokens");
  for (int32_t id : ids) {
    if (id < 0 || id >= config_.vocabulary) {
      return corrupt("the tokenizer gives id " + std::to_string(id) + ", the text encoder knows " +
                     std::to_string(config_.vocabulary) + "; these files belong to different checkpoints");
    }
  }
  return {};
}

Expected<OwnedTensor> Umt5::encode(std::span<const int32_t> ids, Budget& budget, const std::stop_token& stop) {
  LA_RETURN_IF_ERROR(check_ids(ids));
  int64_t tokens = static_cast<int64_t>(ids.size());
  LA_ASSIGN_OR_RETURN(Umt5Memory memory, Umt5Memory::allocate(config_, tokens, dtype_, backend_, budget));
  if (budget.dry_run()) {
    WeightSizer sizer(backend_, budget, MemoryCategory::kText, dtype_);
    LA_RETURN_IF_ERROR(stream_umt5(config_, ids.first(1), sizer, memory.page, {}));
    return std::move(memory.rows);
  }
  Umt5Activations a(config_, tokens, dtype_, memory.arena);
  Umt5Visitor visitor;
  visitor.stop = stop;
  visitor.embedding = [&](int64_t token, const Tensor& row) {
    const Tensor x = a.x.slice(token, 1), y = a.y.slice(token, 1);
    std::copy_n(row.host<float>(), row.elements(), Upload(backend_, x).f32());
    ops::copy(backend_, x, y);  // rounds as a packed table does
    ops::copy(backend_, y, x);
  };
  visitor.layer = [&](const Umt5LayerWeights& w) {
    layer(w, a);
    backend_.wait(backend_.record());  // the next layer's weights overwrite these
  };
  visitor.norm = [&](const Tensor& w) { ops::rms_norm(backend_, a.x, kEps, w, memory.rows.tensor); };
  WeightLoader loader(*source_, backend_, budget, MemoryCategory::kText, dtype_);
  LA_RETURN_IF_ERROR(stream_umt5(config_, ids, loader, memory.page, visitor));
  LA_RETURN_IF_ERROR(backend_.synchronize());
  return std::move(memory.rows);
}

}  // namespace liveavatar
