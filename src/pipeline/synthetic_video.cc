#include "pipeline/synthetic_video.h"

#include "models/wan_vae/static_image.h"
#include "ops/transfer.h"
#include "session/noise.h"
#include "weights/packed_file.h"

namespace liveavatar {
namespace {

// Streams of noise beside those of the blocks, which have their numbers.
constexpr uint64_t kPrompt = 1u << 20, kReference = kPrompt + 1, kMotion = kPrompt + 2, kAudio = 1u << 21;

}  // namespace

Expected<std::unique_ptr<SyntheticVideo>> SyntheticVideo::open(const S2vDit& dit, Backend& backend, Budget& budget,
                                                               const JobShape& shape, const Options& options) {
  std::unique_ptr<SyntheticVideo> video(new SyntheticVideo(backend, shape, options));
  const Denoiser::Options denoising{{.seed = options.seed}, {}, options.cache_folder, {}};
  LA_ASSIGN_OR_RETURN(video->denoiser_, Denoiser::open(dit, backend, budget, shape, denoising));
  LA_ASSIGN_OR_RETURN(video->memory_, BlockMemory::allocate(shape, budget));
  return video;
}

Status SyntheticVideo::prefill(DitWeightGroups& pages) {
  const DitConfig& c = shape_.shapes.dit;
  const DitGeometry g = shape_.geometry();
  Budget outside;  // gone before the blocks
  LA_ASSIGN_OR_RETURN(OwnedTensor prompt, random({c.text_len / 2, c.text_dim}, kPrompt, outside));
  denoiser_->set_prompt(prompt.tensor);
  LA_ASSIGN_OR_RETURN(OwnedTensor motion,
                      random({c.channels, kMotionLatents, g.latent_height, g.latent_width}, kMotion, outside));
  fill(memory_.reference.tensor, kReference);
  return denoiser_->prefill(pages, memory_.reference.tensor, motion.tensor);
}

Expected<std::optional<BlockStart>> SyntheticVideo::receive(int64_t block) {
  BlockStart start;
  start.features = memory_.features.tensor;
  start.latents = memory_.latents[static_cast<size_t>(block) % memory_.latents.size()].tensor;
  fill(start.latents, static_cast<uint64_t>(block));
  fill(start.features, kAudio + static_cast<uint64_t>(block));
  return std::optional<BlockStart>(start);
}

Status SyntheticVideo::send(int64_t, const Tensor& latents) {
  std::chrono::duration<double> at = std::chrono::steady_clock::now() - begin_;
  const Download values(backend_, latents);
  const auto* bytes = reinterpret_cast<const std::byte*>(values.f32());
  blocks_.push_back({at.count(), page_checksum(bytes, latents.bytes())});
  return {};
}

void SyntheticVideo::fill(const Tensor& t, uint64_t stream) const {
  fill_noise(options_.seed, stream, Upload(backend_, t).values());
}

Expected<OwnedTensor> SyntheticVideo::random(Shape shape, uint64_t stream, Budget& budget) const {
  LA_ASSIGN_OR_RETURN(OwnedTensor t, OwnedTensor::allocate(budget, MemoryCategory::kConditioning, shape, DType::kF32));
  fill(t.tensor, stream);
  return t;
}

}  // namespace liveavatar
