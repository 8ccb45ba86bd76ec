#include "plan/memory_plan.h"

#include "models/s2v_dit/weights.h"
#include "models/wan_vae/still.h"
#include "models/wan_vae/weights.h"
#include "models/wav2vec2/audio_features.h"

namespace liveavatar {
namespace {

// The steps of Models::load and of the clip loop, each with the allocations of the real one. tests/plan holds the two
// to each other byte by byte.
class DryRun {
 public:
  explicit DryRun(const PlanRequest& request) : r_(request), geometry_(request.geometry()) {}

  Expected<MemoryPlan> run() {
    LA_ASSIGN_OR_RETURN(types_, parse_type_flags(r_.dtype, r_.weights_dtype, r_.kv_dtype));
    dtype_ = types_.values;
    LA_RETURN_IF_ERROR(stage("load", &DryRun::load));
    plan_.load_peak_bytes = budget_.peak_bytes();
    LA_RETURN_IF_ERROR(stage("text", &DryRun::text));
    LA_RETURN_IF_ERROR(stage("image", &DryRun::image));
    LA_RETURN_IF_ERROR(stage("run", &DryRun::blocks));
    plan_.peak_bytes = budget_.peak_bytes();
    plan_.steady_bytes = budget_.used_bytes();
    plan_.peak_by_tenant = budget_.peak_by_tenant();
    plan_.steady_by_tenant = budget_.used_by_tenant();
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
    LA_ASSIGN_OR_RETURN(program_, Charge::take(budget_, Tenant::kRuntime, kProgramBytes));
    BackendOptions options;
    options.threads = r_.threads;
    options.budget = &budget_;
    LA_ASSIGN_OR_RETURN(backend_, make_backend(r_.device, options));
    {
      WeightLoader loader = loader_for(Tenant::kWeights);
      loader.set_large_dtype(types_.weights);
      LA_ASSIGN_OR_RETURN(dit_, load_dit_weights(r_.shapes.dit, loader));
    }
    {
      WeightLoader loader = loader_for(Tenant::kWeights);
      LA_ASSIGN_OR_RETURN(vae_, load_vae_weights(r_.shapes.vae, loader, ""));
    }
    WeightLoader loader = loader_for(Tenant::kAudio);
    LA_ASSIGN_OR_RETURN(audio_, load_wav2vec2_weights(r_.shapes.audio, loader));
    return {};
  }

  Status text() {
    LA_ASSIGN_OR_RETURN(writer_, Charge::take(budget_, Tenant::kMedia, video_writer_bytes(r_.height, r_.width)));
    LA_ASSIGN_OR_RETURN(OwnedTensor rows, encode_prompt());
    SamplerShape shape{r_.shapes.dit, geometry_, r_.steps, types_};
    LA_ASSIGN_OR_RETURN(sampler_, SamplerMemory::allocate(shape, *backend_, budget_));
    return {};
  }

  // The encoder is gone afterwards, its rows stay until the prompt's keys and values are made.
  Expected<OwnedTensor> encode_prompt() {
    Umt5Weights weights;
    {
      WeightLoader loader = loader_for(Tenant::kText);
      LA_ASSIGN_OR_RETURN(weights, load_umt5_weights(r_.shapes.text, loader));
    }
    int64_t tokens = r_.prompt_tokens > 0 ? r_.prompt_tokens : r_.shapes.dit.text_len;
    LA_ASSIGN_OR_RETURN(Umt5Memory memory, Umt5Memory::allocate(r_.shapes.text, tokens, dtype_, *backend_, budget_));
    return std::move(memory.rows);
  }

  Status image() {
    const WanVaeConfig& vae = r_.shapes.vae;
    Shape picture{3, r_.height, r_.width};
    LA_ASSIGN_OR_RETURN(OwnedTensor pixels,
                        OwnedTensor::allocate(budget_, Tenant::kConditioning, picture, DType::kF32));
    LA_RETURN_IF_ERROR(encode_still(picture));
    int64_t kept = r_.online_decode ? 1 : r_.blocks;
    LA_ASSIGN_OR_RETURN(blocks_, BlockMemory::allocate(r_.shapes.dit, geometry_, kept, budget_));
    int64_t height = geometry_.latent_height, width = geometry_.latent_width;
    LA_ASSIGN_OR_RETURN(decode_stream_, allocate_decoder(vae, {height, width, dtype_}, *backend_, budget_));
    LA_ASSIGN_OR_RETURN(decoder_, DecoderMemory::allocate(vae.z_dim, height, width, budget_));
    return {};
  }

  Status encode_still(const Shape& picture) {
    const WanVaeConfig& vae = r_.shapes.vae;
    OwnedTensor both;
    {
      LA_ASSIGN_OR_RETURN(Arena stream, allocate_encoder(vae, {r_.height, r_.width, dtype_}, *backend_, budget_));
      LA_ASSIGN_OR_RETURN(StillMemory memory,
                          StillMemory::allocate(vae, picture, kPrimingLatents + kMotionLatents, budget_));
      both = std::move(memory.result);
    }
    LA_ASSIGN_OR_RETURN(still_, StillLatents::allocate(vae, picture, budget_));
    return {};
  }

  Status blocks() {
    AudioWindow window = audio_window(r_.voice_samples, {});
    LA_ASSIGN_OR_RETURN(voice_, AudioMemory::allocate(r_.shapes.audio, window, dtype_, *backend_, budget_));
    return {};
  }

  WeightLoader loader_for(Tenant tenant) { return WeightLoader(*backend_, budget_, tenant, dtype_); }

  const PlanRequest& r_;
  DitGeometry geometry_;
  DitTypes types_{DType::kBF16};
  DType dtype_ = DType::kBF16;
  MemoryPlan plan_;
  Budget budget_{Budget::Measuring()};
  Charge program_, writer_;
  std::unique_ptr<Backend> backend_;
  DitWeights dit_;
  WanVaeWeights vae_;
  Wav2Vec2Weights audio_;
  SamplerMemory sampler_;
  StillLatents still_;
  BlockMemory blocks_;
  Arena decode_stream_;
  DecoderMemory decoder_;
  AudioMemory voice_;
};

}  // namespace

Expected<DType> parse_dtype_flag(const std::string& dtype) {
  if (dtype == "bf16") return DType::kBF16;
  if (dtype == "f32") return DType::kF32;
  return invalid_argument("--dtype " + dtype + ": choose bf16 or f32");
}

namespace {

// One of the narrower types by its name; `fallback` for an empty flag.
Expected<DType> parse_narrow(const std::string& flag, const std::string& value, DType fallback, bool with_q4) {
  if (value.empty()) return fallback;
  if (value == "bf16") return DType::kBF16;
  if (value == "int8") return DType::kI8;
  if (value == "fp8") return DType::kF8E4M3;
  if (value == "q4" && with_q4) return DType::kQ4;
  return invalid_argument(flag + " " + value + ": choose bf16, int8" + (with_q4 ? ", fp8 or q4" : " or fp8"));
}

}  // namespace

Expected<DitTypes> parse_type_flags(const std::string& dtype, const std::string& weights_dtype,
                                    const std::string& kv_dtype) {
  LA_ASSIGN_OR_RETURN(DType values, parse_dtype_flag(dtype));
  DitTypes types(values);
  LA_ASSIGN_OR_RETURN(types.weights, parse_narrow("--weights_dtype", weights_dtype, values, true));
  LA_ASSIGN_OR_RETURN(types.kv, parse_narrow("--kv_dtype", kv_dtype, values, false));
  return types;
}

Expected<MemoryPlan> plan_memory(const PlanRequest& request) { return DryRun(request).run(); }

}  // namespace liveavatar
