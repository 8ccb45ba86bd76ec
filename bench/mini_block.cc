// mini_block: one denoising step of one block through one layer of the mini model, with embedding, sound and head, on
// made-up weights: small enough to run under callgrind (callgrind.sh), which counts one_mini_block().
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "ops/make_backend.h"
#include "pipeline/noise.h"
#include "pipeline/sampler.h"
#include "plan/model_shapes.h"

extern "C" [[gnu::noinline]] bool one_mini_block(liveavatar::Sampler& sampler, liveavatar::DitPages& pages,
                                                 const liveavatar::BlockFeed& feed) {
  return sampler.run(pages, {0, 1}, feed).ok();
}

namespace liveavatar {
namespace {

constexpr uint64_t kSeed = 420;

void fill(const OwnedTensor& t, uint64_t stream) {
  fill_noise(kSeed, stream, {t.tensor.host<float>(), static_cast<size_t>(t.tensor.elements())});
}

Status run(Budget& budget) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, make_backend("cpu", {.threads = 1, .budget = &budget}));
  LA_ASSIGN_OR_RETURN(ModelShapes shapes, named_model_shapes("mini"));
  DitConfig& config = shapes.dit;
  config.layers = 1;
  config.audio_inject_layers = {0};
  TensorSourcePtr source = made_up_tensors(dit_tensors(config, *backend), kSeed);
  LA_ASSIGN_OR_RETURN(std::unique_ptr<S2vDit> dit,
                      S2vDit::load(config, *source, *backend, budget, DitTypes{DType::kBF16}));
  DitGeometry geometry{8, 8, 12, kBlockLatents};  // 64 x 64 pixels, clips of 48 frames
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Sampler> sampler, Sampler::open(*dit, *backend, budget, geometry, {.steps = 1}));
  LA_ASSIGN_OR_RETURN(BlockMemory memory, BlockMemory::allocate(config, geometry, {}, budget));
  Shape prompt_shape{config.text_len, config.text_dim};
  LA_ASSIGN_OR_RETURN(OwnedTensor prompt,
                      OwnedTensor::allocate(budget, Tenant::kConditioning, prompt_shape, DType::kF32));
  fill(memory.latents[0], 0);
  fill(memory.features, 1);
  fill(prompt, 2);
  sampler->set_prompt(prompt.tensor);
  BlockFeed feed;
  feed.start = [&](int64_t) -> Expected<BlockFeed::Start> {
    return BlockFeed::Start{memory.features.tensor, memory.latents[0].tensor, Tensor(), Tensor()};
  };
  feed.done = [](int64_t, const Tensor&) { return Status(); };
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DitPages> pages, dit->open_pages(config.layers, budget));
  return one_mini_block(*sampler, *pages, feed) ? Status() : pages->status();
}

}  // namespace
}  // namespace liveavatar

int main() {
  liveavatar::Budget budget;
  liveavatar::Status status = liveavatar::run(budget);
  if (!status.ok()) std::fprintf(stderr, "mini_block: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
