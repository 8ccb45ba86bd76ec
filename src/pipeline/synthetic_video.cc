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

Expected<std::unique_ptr<SyntheticVideo>> SyntheticVideo::open(Models& models, Budget& budget, const JobShape& shape,
                                                               const Options& options) {
  std::unique_ptr<SyntheticVideo> video(new SyntheticVideo(models, budget, shape, options));
  LA_RETURN_IF_ERROR(video->session_.open_denoiser());
  LA_RETURN_IF_ERROR(video->session_.open_blocks());
  return video;
}

Status SyntheticVideo::prefill() {
  const DitConfig& c = session_.shape().shapes.dit;
  const DitGeometry g = session_.shape().geometry();
  const Tensor& reference = session_.blocks().reference.tensor;
  Budget outside;  // gone before the blocks
  LA_ASSIGN_OR_RETURN(OwnedTensor prompt, random({c.text_len / 2, c.text_dim}, kPrompt, outside));
  session_.denoiser().set_prompt(prompt.tensor);
  LA_ASSIGN_OR_RETURN(OwnedTensor motion,
                      random({c.channels, kMotionLatents, g.latent_height, g.latent_width}, kMotion, outside));
  fill(reference, kReference);
  return session_.denoiser().prefill(session_.layers(), reference, motion.tensor);
}

Expected<std::optional<BlockStart>> SyntheticVideo::receive(int64_t block) {
  const BlockMemory& memory = session_.blocks();
  BlockStart start;
  start.features = memory.features.tensor;
  start.latents = memory.latents[static_cast<size_t>(block) % memory.latents.size()].tensor;
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
  fill_noise(seed_, stream, Upload(backend_, t).values());
}

Expected<OwnedTensor> SyntheticVideo::random(Shape shape, uint64_t stream, Budget& budget) const {
  LA_ASSIGN_OR_RETURN(OwnedTensor t, OwnedTensor::allocate(budget, MemoryCategory::kConditioning, shape, DType::kF32));
  fill(t.tensor, stream);
  return t;
}

}  // namespace liveavatar
