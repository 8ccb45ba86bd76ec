#include "models/wan_vae/wan_vae.h"

#include <algorithm>

#include "core/stop.h"
#include "models/wan_vae/decoder.h"
#include "models/wan_vae/encoder.h"

namespace liveavatar {

namespace {

constexpr int64_t kLargestSide = 1 << 16;  // in pixels: keeps every size in 64 bits

Status check_size(int64_t height, int64_t width) {
  for (int64_t side : {height, width}) {
    if (side <= 0 || side > kLargestSide || side % kVaePixels != 0) {
      return invalid_argument("video of " + std::to_string(width) + "x" + std::to_string(height) +
                              " pixels: both sides must be multiples of 8 from 8 to 65536; choose another `size`");
    }
  }
  return {};
}

Status check_f32(const char* what, const Tensor& got, const Shape& wanted) {
  if (!got.empty() && got.dtype == DType::kF32 && got.shape == wanted) return {};
  return invalid_argument(std::string(what) + " are " + dtype_name(got.dtype) + " " + got.shape.str() +
                          ", this step of the video takes F32 " + wanted.str());
}

}  // namespace

Expected<std::unique_ptr<WanVae>> WanVae::load(const TensorSource& source, Backend& backend, Budget& budget,
                                               DType dtype) {
  std::unique_ptr<WanVae> vae(new WanVae(backend, dtype));
  LA_ASSIGN_OR_RETURN(vae->config_, read_vae_config(source));
  WeightLoader loader(source, backend, budget, MemoryCategory::kWeights, dtype);
  LA_ASSIGN_OR_RETURN(vae->weights_, load_vae_weights(vae->config_, loader));
  if (std::vector<std::string> extra = loader.unused(); !extra.empty()) {
    return corrupt(source.where() + ": unknown tensor " + extra.front() + " (" + std::to_string(extra.size()) +
                   " in all); this is not a Wan 2.1 VAE, take Wan2.1_VAE.pth of the checkpoint");
  }
  return vae;
}

Expected<std::unique_ptr<WanVae>> WanVae::dry_run(const WanVaeConfig& config, Backend& backend, Budget& budget,
                                                  DType dtype) {
  std::unique_ptr<WanVae> vae(new WanVae(backend, dtype));
  vae->config_ = config;
  WeightSizer sizer(backend, budget, MemoryCategory::kWeights, dtype);
  LA_ASSIGN_OR_RETURN(vae->weights_, load_vae_weights(config, sizer));
  return vae;
}

Expected<std::unique_ptr<VaeEncodeStream>> VaeEncodeStream::open(const WanVae& vae, Budget& budget, int64_t height,
                                                                 int64_t width) {
  LA_RETURN_IF_ERROR(check_size(height, width));
  std::unique_ptr<VaeEncodeStream> stream(new VaeEncodeStream(vae, height, width));
  LA_ASSIGN_OR_RETURN(stream->allocated_,
                      allocate_encoder(vae.config(), {height, width, vae.dtype()}, vae.backend(), budget));
  if (budget.dry_run()) return stream;
  stream->memory_ = encoder_memory(vae.config(), height, width, vae.dtype(), stream->allocated_.arena);
  clear(vae.backend(), stream->memory_.cache);
  return stream;
}

Status VaeEncodeStream::step(const Tensor& pixels, const Tensor& z) { return run(pixels, z, false); }

Status VaeEncodeStream::fixed_point(const Tensor& pixels, const Tensor& z) {
  first_ = false;
  return run(pixels, z, true);
}

Status VaeEncodeStream::run(const Tensor& pixels, const Tensor& z, bool at_fixed_point) {
  LA_RETURN_IF_ERROR(check_f32("pixels", pixels, {3, next_frames(), height_, width_}));
  Shape latent{vae_.config().z_dim, 1, height_ / kVaePixels, width_ / kVaePixels};
  LA_RETURN_IF_ERROR(check_f32("latents", z, latent));
  encode_step({vae_.backend(), vae_.weights(), memory_, first_, at_fixed_point, observer_, stop_}, pixels, z);
  first_ = false;
  return check_stop(stop_);
}

Expected<std::unique_ptr<VaeDecodeStream>> VaeDecodeStream::open(const WanVae& vae, Budget& budget,
                                                                 int64_t latent_height, int64_t latent_width,
                                                                 Backend* backend) {
  int64_t limit = kLargestSide / kVaePixels;
  if (latent_height > limit || latent_width > limit) latent_height = latent_width = limit + 1;  // refused below
  LA_RETURN_IF_ERROR(check_size(latent_height * kVaePixels, latent_width * kVaePixels));
  std::unique_ptr<VaeDecodeStream> stream(
      new VaeDecodeStream(vae, backend == nullptr ? vae.backend() : *backend, latent_height, latent_width));
  VaeInput in{latent_height, latent_width, vae.dtype()};
  LA_ASSIGN_OR_RETURN(stream->allocated_, allocate_decoder(vae.config(), in, stream->backend_, budget));
  if (budget.dry_run()) return stream;
  stream->memory_ = decoder_memory(vae.config(), latent_height, latent_width, vae.dtype(), stream->allocated_.arena);
  stream->restart();
  return stream;
}

void VaeDecodeStream::restart() {
  clear(backend_, memory_.cache);
  first_ = true;
}

Status VaeDecodeStream::visit_state(StateVisitor& visitor) {
  LA_CHECK(!first_);
  return visit(memory_.cache, visitor);
}

Status VaeDecodeStream::prime(const Tensor& z, int64_t left) {
  LA_RETURN_IF_ERROR(check_f32("latents", z, {vae_.config().z_dim, 1, height_, width_}));
  prime_step({backend_, vae_.weights(), memory_, first_, false, observer_, stop_}, z,
             priming_layers(vae_.config(), left));
  first_ = false;
  return check_stop(stop_);
}

Expected<int64_t> VaeDecodeStream::step(const Tensor& z, const Tensor& frames) {
  LA_RETURN_IF_ERROR(check_f32("latents", z, {vae_.config().z_dim, 1, height_, width_}));
  int64_t count = next_frames(), rows = frames.rank() == 4 ? std::max(count, frames.dim(0)) : count;
  LA_RETURN_IF_ERROR(check_f32("frames", frames, {rows, height_ * kVaePixels, width_ * kVaePixels, 3}));
  decode_step({backend_, vae_.weights(), memory_, first_, false, observer_, stop_}, z, frames.slice(0, count));
  first_ = false;
  LA_RETURN_IF_ERROR(check_stop(stop_));
  return count;
}

}  // namespace liveavatar
