#include "pipeline/synthetic_video.h"

#include "models/wan_vae/static_image.h"
#include "ops/transfer.h"
#include "session/finite.h"
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
  LA_RETURN_IF_ERROR(video->session_.prepare(*video));
  video->prefill_seconds_ = video->seconds();
  return video;
}

void SyntheticVideo::begin(Stage stage) {
  if (stage == Stage::kPrefill) start();
}

Expected<OwnedTensor> SyntheticVideo::prompt(VideoSession& session) {
  const DitConfig& c = session.shape().shapes.dit;
  LA_ASSIGN_OR_RETURN(OwnedTensor rows, OwnedTensor::allocate(session.budget().host(), MemoryCategory::kConditioning,
                                                              {c.text_len, c.text_dim}, DType::kF32));
  fill(rows.tensor, kPrompt);
  return rows;
}

Expected<StaticImageLatents> SyntheticVideo::portrait(VideoSession& session) {
  const JobShape& shape = session.shape();
  LA_ASSIGN_OR_RETURN(StaticImageLatents latents,
                      StaticImageLatents::allocate(shape.shapes.vae, {3, shape.height, shape.width}, session.budget()));
  fill(latents.first.tensor, kReference);
  fill(latents.last.tensor, kMotion);
  return latents;
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

Status SyntheticVideo::send(int64_t block, const Tensor& latents) {
  LA_RETURN_IF_ERROR(check_finite(backend_, latents, {block}));
  const Download values(backend_, latents);
  const auto* bytes = reinterpret_cast<const std::byte*>(values.f32());
  blocks_.push_back({seconds(), page_checksum(bytes, latents.bytes())});
  return {};
}

void SyntheticVideo::fill(const Tensor& t, uint64_t stream) const {
  fill_noise(seed_, stream, Upload(backend_, t).values());
}

}  // namespace liveavatar
