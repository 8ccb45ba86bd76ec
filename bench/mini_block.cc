// mini_block: one denoising step of one block through one layer of the mini model, with embedding, audio and head, on
// synthetic weights: small enough to run under callgrind (callgrind.sh), which counts one_mini_block().
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "one_block.h"
#include "ops/make_backend.h"
#include "session/denoiser.h"
#include "session/noise.h"

extern "C" [[gnu::noinline]] bool one_mini_block(liveavatar::Denoiser& denoiser, liveavatar::DitWeightGroups& pages,
                                                 liveavatar::LatentChannel& channel) {
  return denoiser.run(pages, {0, 1}, channel).ok();
}

namespace liveavatar {
namespace {

constexpr uint64_t kSeed = 420;

void fill(const OwnedTensor& t, uint64_t stream) {
  fill_noise(kSeed, stream, {t.tensor.host<float>(), static_cast<size_t>(t.tensor.elements())});
}

Status run(Budget& budget) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, make_backend("cpu", {.threads = 1, .budget = &budget}));
  JobShape shape;
  LA_ASSIGN_OR_RETURN(shape.shapes, named_model_shapes("mini"));
  shape.height = shape.width = 64;
  shape.blocks = shape.steps = 1;
  DitConfig& config = shape.shapes.dit;
  config.layers = 1;
  config.audio_inject_layers = {0};
  TensorSourcePtr source = synthetic_tensors(dit_tensors(config, *backend), kSeed);
  LA_ASSIGN_OR_RETURN(std::unique_ptr<S2vDit> dit,
                      S2vDit::load(config, *source, *backend, budget, DitTypes{DType::kBF16}));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Denoiser> denoiser, Denoiser::open(*dit, *backend, budget, shape, {}));
  LA_ASSIGN_OR_RETURN(BlockMemory memory, BlockMemory::allocate(shape, budget));
  Shape prompt_shape{config.text_len, config.text_dim};
  LA_ASSIGN_OR_RETURN(OwnedTensor prompt,
                      OwnedTensor::allocate(budget, MemoryCategory::kConditioning, prompt_shape, DType::kF32));
  fill(memory.latents[0], 0);
  fill(memory.features, 1);
  fill(prompt, 2);
  denoiser->set_prompt(prompt.tensor);
  OneBlock channel(memory);
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DitWeightGroups> pages, dit->open_weight_groups({config.layers}, budget));
  return one_mini_block(*denoiser, *pages, channel) ? Status() : pages->status();
}

}  // namespace
}  // namespace liveavatar

int main() {
  liveavatar::Budget budget;
  liveavatar::Status status = liveavatar::run(budget);
  if (!status.ok()) std::fprintf(stderr, "mini_block: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
