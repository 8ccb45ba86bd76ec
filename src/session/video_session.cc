#include "session/video_session.h"

#include <utility>

#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/transfer.h"

namespace liveavatar {
namespace {

// A copy in the backend's memory of a tensor in host memory.
Expected<OwnedTensor> copy_to(Backend& backend, const Tensor& host, Budget& budget) {
  LA_ASSIGN_OR_RETURN(OwnedTensor copy,
                      OwnedTensor::allocate(budget, MemoryCategory::kConditioning, host.shape, host.dtype));
  backend.upload(host.address(), copy.tensor);
  return copy;
}

}  // namespace

Status VideoSession::prepare(VideoInputs& inputs) {
  LA_CHECK(denoiser_ == nullptr);
  LA_RETURN_IF_ERROR(inputs.open(budget_.host()));
  inputs.begin(Stage::kText);
  LA_RETURN_IF_ERROR(open_writer());
  LA_RETURN_IF_ERROR(open_denoiser(inputs));
  inputs.begin(Stage::kImage);
  LA_ASSIGN_OR_RETURN(static_image_, inputs.portrait(*this));
  static_image_done_ = models_.backend->record();
  LA_RETURN_IF_ERROR(open_blocks());
  if (!budget_.dry_run()) inputs.reference(blocks_.reference.tensor);
  LA_RETURN_IF_ERROR(open_weights());
  inputs.begin(Stage::kPrefill);
  LA_RETURN_IF_ERROR(prefill());
  LA_RETURN_IF_ERROR(open_decoder());
  return open_pose(inputs.pose());
}

Status VideoSession::open_writer() {
  if (shape_.live.live()) return {};
  size_t bytes = shape_.video_model_only ? 0 : video_writer_bytes(shape_.height, shape_.width);
  if (shape_.snapshots) bytes += snapshot_run_bytes(shape_.beside_host_memory());
  LA_ASSIGN_OR_RETURN(writer_, Charge::acquire(budget_.host(), MemoryCategory::kMedia, bytes));
  return {};
}

Status VideoSession::open_denoiser(VideoInputs& inputs) {
  LA_ASSIGN_OR_RETURN(OwnedTensor rows, inputs.prompt(*this));
  if (!shape_.rank.samples) return {};
  const Denoiser::Options options{options_.sampling, options_.cache_folder, options_.stop, options_.stage};
  LA_ASSIGN_OR_RETURN(denoiser_, Denoiser::open(*models_.dit, *models_.backend, budget_, shape_, options));
  LA_ASSIGN_OR_RETURN(OwnedTensor moved, on_device(models_, std::move(rows), budget_));
  if (!budget_.dry_run()) denoiser_->set_prompt(moved.tensor);
  return {};
}

Status VideoSession::change_prompt(const Tensor& rows) {
  denoiser_->set_prompt(rows);
  return prefill();
}

Status VideoSession::restart(const StaticImageLatents& portrait) {
  Backend& backend = *models_.backend;
  ops::copy(backend, portrait.first.tensor, static_image_.first.tensor);
  ops::copy(backend, portrait.last.tensor, static_image_.last.tensor);
  set_reference();
  denoiser_->restart();
  LA_RETURN_IF_ERROR(prefill());
  return decoder_->restart(static_image_.first.tensor);
}

// Latent 1 of five equal frames.
void VideoSession::set_reference() {
  ops::copy_frames(*models_.backend, static_image_.first.tensor, blocks_.reference.tensor, {1, 0, 1});
}

Status VideoSession::open_blocks() {
  LA_ASSIGN_OR_RETURN(blocks_, BlockMemory::allocate(shape_, budget_));
  LA_ASSIGN_OR_RETURN(link_, LinkMemory::allocate(shape_, budget_));
  if (!budget_.dry_run()) set_reference();
  return {};
}

Status VideoSession::open_weights() {
  LA_CHECK(budget_.dry_run() || shape_.shares_weights == (options_.weights != nullptr));
  if (shape_.shares_weights || !shape_.rank.samples) return {};
  const DitAccess access{shape_.layers(), shape_.blocks_in_flight() * shape_.sessions};
  LA_ASSIGN_OR_RETURN(weights_, models_.dit->open_weight_groups(access, budget_, options_.stop));
  return {};
}

Status VideoSession::prefill() {
  if (budget_.dry_run() || !shape_.rank.samples) return {};
  return denoiser_->prefill(weights(), blocks_.reference.tensor, static_image_.last.tensor);
}

Status VideoSession::open_decoder() {
  if (shape_.video_model_only) return {};
  Backend* decoding = models_.backend.get();
  if (shape_.decodes_beside()) {
    decoding = models_.decode_backend.get();
    models_.backend->wait(static_image_done_);
  }
  LA_ASSIGN_OR_RETURN(decoder_, FrameDecoder::open(*models_.vae, static_image_.first.tensor, budget_,
                                                   {.backend = decoding, .stop = options_.stop}));
  return {};
}

Status VideoSession::open_pose(PoseVideo* video) {
  if (shape_.pose.empty() || !shape_.rank.lead) return {};
  PoseEncoder::Options options{shape_.pose, shape_.clip_frames, options_.black_pose_end, options_.stop};
  options.shape.size = {shape_.height, shape_.width};  // a smaller video may be planned than was asked for
  LA_ASSIGN_OR_RETURN(pose_, PoseEncoder::open(*models_.vae, budget_, video, options));
  return {};
}

Expected<OwnedTensor> VideoSession::encode_prompt(std::span<const int32_t> ids) {
  ConditionCache* cache = models_.cache.get();
  if (cache == nullptr) return run_text_encoder(models_, ids, budget_, options_.stop);
  Backend& backend = models_.text_backend();
  const std::string key = ConditionCache::prompt_key(ids);
  const std::vector<OwnedTensor>* kept = cache->find(key);
  if (kept != nullptr) return copy_to(backend, kept->front().tensor, budget_.host());
  LA_ASSIGN_OR_RETURN(OwnedTensor rows, run_text_encoder(models_, ids, budget_, options_.stop));
  cache->keep(key, {Download(backend, rows.tensor).tensor()});
  return rows;
}

Expected<OwnedTensor> VideoSession::encode_new_prompt(std::span<const int32_t> ids) {
  LA_ASSIGN_OR_RETURN(OwnedTensor rows, encode_prompt(ids));
  return on_device(models_, std::move(rows), budget_);
}

Expected<StaticImageLatents> VideoSession::encode_portrait(const Image& portrait) {
  ConditionCache* cache = models_.cache.get();
  if (cache == nullptr) return encode_image(portrait);
  const std::string key = ConditionCache::portrait_key(portrait.rgb, portrait.height, portrait.width);
  const std::vector<OwnedTensor>* kept = cache->find(key);
  if (kept != nullptr) return copy_latents(*kept);
  LA_ASSIGN_OR_RETURN(StaticImageLatents latents, encode_image(portrait));
  const Download first(*models_.backend, latents.first.tensor), last(*models_.backend, latents.last.tensor);
  cache->keep(key, {first.tensor(), last.tensor()});
  return latents;
}

Expected<StaticImageLatents> VideoSession::encode_image(const Image& portrait) {
  const Shape shape{3, shape_.height, shape_.width};
  LA_ASSIGN_OR_RETURN(OwnedTensor pixels,
                      OwnedTensor::allocate(budget_, MemoryCategory::kConditioning, shape, DType::kF32));
  if (!budget_.dry_run()) image_to_pixels(portrait, Upload(*models_.backend, pixels.tensor).f32());
  return encode_static_image(*models_.vae, budget_, pixels.tensor, options_.stop);
}

Expected<StaticImageLatents> VideoSession::copy_latents(const std::vector<OwnedTensor>& kept) {
  StaticImageLatents latents;
  LA_ASSIGN_OR_RETURN(latents.first, copy_to(*models_.backend, kept.at(0).tensor, budget_));
  LA_ASSIGN_OR_RETURN(latents.last, copy_to(*models_.backend, kept.at(1).tensor, budget_));
  return latents;
}

}  // namespace liveavatar
