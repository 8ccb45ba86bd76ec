// A layer of the 14B model in the middle of a video: a full KV cache, the sink and the prompt, without audio
// cross-attention. torch_side.py has the same.
#include <cstdio>

#include "gpu_check.h"
#include "models/s2v_dit/s2v_dit.h"
#include "ops/elementwise.h"
#include "session/model_shapes.h"

namespace liveavatar::gpu_check {
namespace {

struct PixelSize {
  int64_t width, height;
};

class Layer {
 public:
  static Expected<std::unique_ptr<Layer>> open(Backend& backend, Budget& budget, const DitConfig& config,
                                               const PixelSize& size) {
    constexpr int64_t kPixelsPerLatent = 8;
    constexpr uint64_t kSeed = 420;
    auto layer = std::make_unique<Layer>(backend, budget);
    layer->geometry_ = {.latent_height = size.height / kPixelsPerLatent, .latent_width = size.width / kPixelsPerLatent};
    const TensorSourcePtr source = synthetic_tensors(dit_tensors(config, backend), kSeed);
    LA_ASSIGN_OR_RETURN(layer->dit_, S2vDit::load(config, *source, backend, budget, DitTypes(DType::kBF16)));
    LA_RETURN_IF_ERROR(layer->allocate(config));
    LA_RETURN_IF_ERROR(layer->fill());
    return layer;
  }
  Layer(Backend& backend, Budget& budget) : backend_(backend), budget_(budget) {}

  // Each run adds to the residual stream that the last one left: it grows little, since a layer's inputs are normed.
  void run() {
    ForwardState* forward = &session_->activations.forwards.front();
    dit_->layer(0, *weight_groups_, {&forward, 1});
  }

 private:
  Status allocate(const DitConfig& config) {
    const DitTypes types(DType::kBF16);
    LA_RETURN_IF_ERROR(backend_.reserve(largest_ops(config, geometry_, types.values)));
    Arena measure;
    DitCaches(config, geometry_, 1, 1, types, measure);
    DitActivations(config, geometry_, types.values, measure);
    LA_ASSIGN_OR_RETURN(arena_, Arena::allocate(budget_, MemoryCategory::kKvCache, measure.used_bytes()));
    DitCaches caches(config, geometry_, 1, 1, types, arena_);
    DitActivations activations(config, geometry_, types.values, arena_);
    session_ = std::make_unique<DitSession>(geometry_, std::move(caches), std::move(activations));
    LA_ASSIGN_OR_RETURN(weight_groups_, dit_->open_weight_groups({config.layers}, budget_));
    const Shape latents{dit_->config().channels, geometry_.block_latents, geometry_.latent_height,
                        geometry_.latent_width};
    LA_ASSIGN_OR_RETURN(latents_, OwnedTensor::allocate(budget_, MemoryCategory::kRuntime, latents, DType::kF32));
    return {};
  }

  // What a layer reads, without the forwards that normally write it.
  Status fill() {
    constexpr int64_t kStartLatent = 15;  // the second block of the second clip: a slot inside the KV cache
    LA_RETURN_IF_ERROR(fill_with_noise(backend_, budget_, latents_.tensor));
    dit_->begin({.latents = latents_.tensor, .timestep = 500, .start_latent = kStartLatent},
                session_->activations.forwards.front());
    DitCaches& caches = session_->caches;
    caches.filled_latents.front() = geometry_.clip_latents;
    const KvCacheGuard cache(*caches.kv, backend_, {0, 0}, 0);
    const KeyValues own = *cache, sink = caches.sink.layers.front();
    for (const Tensor& t : {own.k, own.v, sink.k, sink.v, caches.prompt}) {
      LA_RETURN_IF_ERROR(fill_with_noise(backend_, budget_, t));
    }
    return {};
  }

  Backend& backend_;
  Budget& budget_;
  DitGeometry geometry_;
  std::unique_ptr<S2vDit> dit_;
  Arena arena_;
  std::unique_ptr<DitWeightGroups> weight_groups_;
  std::unique_ptr<DitSession> session_;
  OwnedTensor latents_;
};

Status measure(DeviceSource& source, const DitConfig& config, const PixelSize& size) {
  Budget host, budget(Budget::kUnlimited, source.allocator(), host);
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, source.open({.budget = &budget}));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Layer> layer, Layer::open(*backend, budget, config, size));
  LA_ASSIGN_OR_RETURN(double seconds, seconds_per_call(*backend, [&] { layer->run(); }));
  print_figure("layer.BF16." + std::to_string(size.width) + "x" + std::to_string(size.height), seconds * 1e3, "ms");
  return {};
}

Status measure_all(const std::string& device) {
  const bool emulated = device == "cuda-emulated";
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DeviceSource> source, open_device(device));
  LA_ASSIGN_OR_RETURN(ModelShapes shapes, named_model_shapes(emulated ? "mini" : "14b"));
  shapes.dit.layers = 1;
  shapes.dit.audio_inject_layers.clear();
  std::vector<PixelSize> sizes{{704, 384}, {384, 256}};
  if (emulated) sizes = {{64, 64}};
  for (const PixelSize& size : sizes) LA_RETURN_IF_ERROR(measure(*source, shapes.dit, size));
  return {};
}

}  // namespace

int measure_layers(const std::string& device) {
  const Status status = measure_all(device);
  if (!status.ok()) std::printf("%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace liveavatar::gpu_check
