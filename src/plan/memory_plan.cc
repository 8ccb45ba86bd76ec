#include "plan/memory_plan.h"

#include <algorithm>

#include "media/mask_picture.h"
#include "models/s2v_dit/packed.h"
#include "models/wan_vae/static_image.h"
#include "models/wan_vae/weights.h"
#include "models/wav2vec2/audio_features.h"
#include "ops/make_backend.h"

namespace liveavatar {
namespace {

// The steps of Models::load and of the clip loop, each with the allocations of the real one. tests/plan holds the two
// to each other byte by byte.
class DryRun {
 public:
  explicit DryRun(const JobShape& request) : r_(request), geometry_(request.geometry()) {}

  Expected<MemoryPlan> run() {
    LA_RETURN_IF_ERROR(check_int8_products(r_.int8_products, r_.weights_dtype));
    types_ = r_.types();
    LA_RETURN_IF_ERROR(stage("load", &DryRun::load));
    plan_.load_peak_bytes = budget_.peak_bytes();
    LA_RETURN_IF_ERROR(stage("portrait", &DryRun::portrait));
    LA_RETURN_IF_ERROR(stage("text", &DryRun::text));
    LA_RETURN_IF_ERROR(stage("image", &DryRun::image));
    LA_RETURN_IF_ERROR(stage("run", &DryRun::blocks));
    plan_.peak_bytes = budget_.peak_bytes();
    plan_.steady_bytes = budget_.used_bytes();
    plan_.peak_by_category = budget_.peak_by_category();
    plan_.steady_by_category = budget_.used_by_category();
    return plan_;
  }

 private:
  Status stage(const char* name, Status (DryRun::*body)()) {
    budget_.restart_recent_peak();
    LA_RETURN_IF_ERROR((this->*body)());
    plan_.stages.push_back({name, budget_.recent_peak_bytes(), budget_.used_bytes()});
    return {};
  }

  Status load() {
    LA_ASSIGN_OR_RETURN(program_, Charge::acquire(budget_, MemoryCategory::kRuntime, kProgramBytes));
    BackendOptions options;
    options.threads = r_.threads;
    options.int8_products = r_.int8_products;
    options.budget = &budget_;
    LA_ASSIGN_OR_RETURN(backend_, make_backend(r_.device, options));
    plan_.int8_products = backend_->int8_products();
    if (r_.decode_threads > 0) {
      options.threads = r_.decode_threads;
      LA_ASSIGN_OR_RETURN(decode_backend_, make_backend(r_.device, options));
    }
    LA_RETURN_IF_ERROR(load_dit());
    if (r_.video_model_only) return {};
    {
      WeightSizer loader = loader_for(MemoryCategory::kWeights);
      LA_ASSIGN_OR_RETURN(vae_, load_vae_weights(r_.shapes.vae, loader));
    }
    WeightSizer loader = loader_for(MemoryCategory::kAudio);
    LA_ASSIGN_OR_RETURN(audio_, load_wav2vec2_weights(r_.shapes.audio, loader));
    return {};
  }

  Status load_dit() {
    if (!r_.packed) {
      WeightSizer loader = loader_for(MemoryCategory::kWeights, r_.merge_bytes);
      LA_ASSIGN_OR_RETURN(dit_, load_dit_weights(r_.shapes.dit, loader));
      return {};
    }
    const std::vector<PackedPage> packed = dit_packed_pages(r_.shapes.dit, *backend_, types_);
    if (r_.pack_first) {
      WeightSizer loader = loader_for(MemoryCategory::kWeights, r_.merge_bytes);
      auto nothing = [](const PackedPage&, const std::byte*) { return Status(); };
      LA_RETURN_IF_ERROR(pack_dit_pages(r_.shapes.dit, packed, loader, budget_, nothing));
    }
    for (const PackedPage& page : packed) spans_.push_back(page.span);
    LA_ASSIGN_OR_RETURN(common_, Buffer::allocate(budget_, MemoryCategory::kWeights, spans_.front().bytes));
    spans_.erase(spans_.begin());
    return {};
  }

  Status page_in() {
    if (!r_.packed) return {};
    LA_ASSIGN_OR_RETURN(pages_, allocate_dit_pages(r_.shapes.dit, spans_, r_.resident(), budget_));
    plan_.paged_bytes = paged_bytes(r_.shapes.dit, spans_, r_.resident());
    return {};
  }

  Status portrait() {
    size_t mask = mask_bytes(r_.first_mask_pixels);  // read behind the portrait, and behind what finds its turn
    return Charge::acquire(budget_, MemoryCategory::kMedia, std::max({r_.portrait_bytes, r_.orientation_bytes, mask}))
        .status();
  }

  Status text() {
    plan_.kv_cache_bytes = kv_cache_bytes_per_block(r_.kv_caches());
    if (r_.video_model_only) {
      LA_ASSIGN_OR_RETURN(sampler_, SamplerMemory::allocate(r_, "", *backend_, budget_));
      return {};
    }
    LA_ASSIGN_OR_RETURN(writer_,
                        Charge::acquire(budget_, MemoryCategory::kMedia, video_writer_bytes(r_.height, r_.width)));
    LA_ASSIGN_OR_RETURN(OwnedTensor rows, encode_prompt());
    LA_ASSIGN_OR_RETURN(sampler_, SamplerMemory::allocate(r_, "", *backend_, budget_));
    return {};
  }

  // The encoder's weights pass through and are gone afterwards; its rows stay until the prompt's keys and values are
  // made.
  Expected<OwnedTensor> encode_prompt() {
    int64_t tokens = r_.prompt_tokens > 0 ? r_.prompt_tokens : r_.shapes.dit.text_len;
    LA_ASSIGN_OR_RETURN(Umt5Memory memory,
                        Umt5Memory::allocate(r_.shapes.text, tokens, types_.values, *backend_, budget_));
    WeightSizer loader = loader_for(MemoryCategory::kText);
    const int32_t any_token = 0;
    LA_RETURN_IF_ERROR(stream_umt5(r_.shapes.text, {&any_token, 1}, loader, memory.page, {}));
    return std::move(memory.rows);
  }

  Status image() {
    const WanVaeConfig& vae = r_.shapes.vae;
    Shape picture{3, r_.height, r_.width};
    OwnedTensor pixels;
    if (!r_.video_model_only) {
      LA_ASSIGN_OR_RETURN(pixels, OwnedTensor::allocate(budget_, MemoryCategory::kConditioning, picture, DType::kF32));
      LA_RETURN_IF_ERROR(encode_static_image(picture));
    }
    LA_ASSIGN_OR_RETURN(blocks_, BlockMemory::allocate(r_, budget_));
    LA_RETURN_IF_ERROR(page_in());
    if (r_.video_model_only) return {};
    int64_t height = geometry_.latent_height, width = geometry_.latent_width;
    Backend& decoding = r_.decodes_beside() ? *decode_backend_ : *backend_;
    LA_ASSIGN_OR_RETURN(decode_stream_, allocate_decoder(vae, {height, width, types_.values}, decoding, budget_));
    LA_ASSIGN_OR_RETURN(decoder_, DecoderMemory::allocate(vae.z_dim, height, width, budget_));
    if (r_.pose.empty()) return {};
    PoseShape pose = r_.pose;
    pose.size = {r_.height, r_.width};  // a smaller picture may be planned than was asked for
    LA_ASSIGN_OR_RETURN(pose_, PoseMemory::allocate(pose, vae.z_dim, budget_));
    LA_ASSIGN_OR_RETURN(pose_stream_, allocate_encoder(vae, {r_.height, r_.width, types_.values}, *backend_, budget_));
    return {};
  }

  Status encode_static_image(const Shape& picture) {
    const WanVaeConfig& vae = r_.shapes.vae;
    OwnedTensor both;
    {
      LA_ASSIGN_OR_RETURN(Arena stream,
                          allocate_encoder(vae, {r_.height, r_.width, types_.values}, *backend_, budget_));
      LA_ASSIGN_OR_RETURN(StaticImageMemory memory,
                          StaticImageMemory::allocate(vae, picture, kPrimingLatents + kMotionLatents, budget_));
      both = std::move(memory.result);
    }
    LA_ASSIGN_OR_RETURN(still_, StaticImageLatents::allocate(vae, picture, budget_));
    return {};
  }

  Status blocks() {
    if (r_.video_model_only) return {};
    LA_RETURN_IF_ERROR(hear(r_.voice_samples));
    for (int64_t samples : r_.more_voices) LA_RETURN_IF_ERROR(hear(samples));
    return {};
  }

  Status hear(int64_t voice_samples) {
    AudioWindow window = audio_window(voice_samples, {});
    LA_ASSIGN_OR_RETURN(AudioMemory voice,
                        AudioMemory::allocate(r_.shapes.audio, window, types_.values, *backend_, budget_));
    voices_.push_back(std::move(voice));
    return {};
  }

  WeightSizer loader_for(MemoryCategory category, size_t scratch_bytes = 0) {
    return WeightSizer(*backend_, budget_, category, types_, scratch_bytes);
  }

  const JobShape& r_;
  DitGeometry geometry_;
  DitTypes types_{DType::kBF16};
  MemoryPlan plan_;
  Budget budget_{Budget::DryRun()};
  Charge program_, writer_;
  std::unique_ptr<Backend> backend_, decode_backend_;
  DitWeights dit_;
  std::vector<PageSpan> spans_;
  Buffer common_;
  PageMemory pages_;
  WanVaeWeights vae_;
  Wav2Vec2Weights audio_;
  SamplerMemory sampler_;
  StaticImageLatents still_;
  BlockMemory blocks_;
  Arena decode_stream_;
  DecoderMemory decoder_;
  PoseMemory pose_;
  Arena pose_stream_;
  std::vector<AudioMemory> voices_;
};

}  // namespace

Expected<MemoryPlan> plan_memory(const JobShape& request) { return DryRun(request).run(); }

namespace {

// The most of 0..count with which it fits; fits(0) is known.
template <typename Fits>
Expected<int64_t> most_that_fit(int64_t count, const Fits& fits) {
  int64_t most = 0, too_many = count + 1;
  while (too_many - most > 1) {
    LA_ASSIGN_OR_RETURN(bool good, fits((most + too_many) / 2));
    (good ? most : too_many) = (most + too_many) / 2;
  }
  return most;
}

class ShapeResolver {
 public:
  ShapeResolver(const JobShape& request, size_t budget_bytes)
      : r_(request),
        budget_bytes_(budget_bytes),
        kv_caches_open_(request.disk_kv_caches && request.resident_kv_caches < 0) {}

  Expected<JobShape> run() {
    bool open = r_.schedule == Schedule::kAuto;
    const Schedule asked = r_.schedule;
    if (open) r_.schedule = Schedule::kSequential;
    if (budget_bytes_ == 0 || (!r_.packed && !kv_caches_open_)) return r_;
    LA_ASSIGN_OR_RETURN(bool all_fit, fits());
    if (all_fit) return r_;
    for (Schedule schedule : {Schedule::kWavefront, Schedule::kSequential}) {
      r_.schedule = open ? schedule : asked;
      if (open && r_.schedule == Schedule::kWavefront && (!r_.packed || r_.blocks_in_flight() == 1))
        continue;  // of no use
      LA_ASSIGN_OR_RETURN(bool found, page());
      if (found || !open) return r_;
    }
    return r_;
  }

 private:
  Expected<bool> fits() const {
    LA_ASSIGN_OR_RETURN(MemoryPlan plan, plan_memory(r_));
    return plan.peak_bytes <= budget_bytes_;
  }
  Expected<bool> fits_with(int64_t JobShape::*field, int64_t count) {
    r_.*field = count;
    return fits();
  }

  // Weights leave memory before keys and values do: those are written too, and disks wear.
  Expected<bool> page() {
    if (kv_caches_open_) r_.resident_kv_caches = -1;
    if (r_.packed) {
      LA_ASSIGN_OR_RETURN(bool any, fits_with(&JobShape::resident_layers, 0));
      if (any) return fill(&JobShape::resident_layers, r_.shapes.dit.layers);
    }
    if (!kv_caches_open_) return false;
    LA_ASSIGN_OR_RETURN(bool any, fits_with(&JobShape::resident_kv_caches, 0));
    return any ? fill(&JobShape::resident_kv_caches, r_.kv_caches().count()) : Expected<bool>(false);
  }

  Expected<bool> fill(int64_t JobShape::*field, int64_t count) {
    auto with = [&](int64_t n) { return fits_with(field, n); };
    LA_ASSIGN_OR_RETURN(int64_t most, most_that_fit(count, with));
    r_.*field = most;
    return true;
  }

  JobShape r_;
  size_t budget_bytes_;
  bool kv_caches_open_;
};

}  // namespace

Expected<JobShape> resolve_shape(const JobShape& request, size_t budget_bytes) {
  return ShapeResolver(request, budget_bytes).run();
}

}  // namespace liveavatar
