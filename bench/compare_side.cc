// The engine's side of compare_pytorch.py: loads the files of that script, runs on its commands.
//   compare_side dit|vae|audio|text FOLDER [--threads N] [--dtype bf16|f32|int8]
// int8 (dit only): weights in int8, products in 8 bits, the rest in bf16.
// Commands on stdin, each answered by one line:
//   check    runs once and writes FOLDER/ours.f32, row-major
//   run N    runs N times: their times in ms
//   base N   the same of what is no computing (text only: passing weights through for a single token)
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "models/s2v_dit/s2v_dit.h"
#include "models/umt5/umt5.h"
#include "models/wan_vae/wan_vae.h"
#include "models/wav2vec2/wav2vec2.h"
#include "ops/elementwise.h"
#include "ops/make_backend.h"
#include "weights/tensor_source.h"

namespace liveavatar::bench {
namespace {

struct Setting {
  std::string folder;
  DType dtype = DType::kBF16;
  bool int8 = false;
  Budget& budget;
  Backend& backend;
};

// A tensor of inputs.safetensors as f32.
Expected<OwnedTensor> input(const Setting& s, const TensorSource& inputs, const std::string& name) {
  auto it = inputs.tensors().find(name);
  if (it == inputs.tensors().end()) return not_found(inputs.where() + " has no tensor " + name);
  const TensorInfo& info = it->second;
  std::vector<char> bytes(static_cast<size_t>(info.shape.elements()) * dtype_bytes(info.dtype));
  LA_RETURN_IF_ERROR(inputs.read(name, bytes.data()));
  LA_ASSIGN_OR_RETURN(OwnedTensor t,
                      OwnedTensor::allocate(s.budget, MemoryCategory::kRuntime, info.shape, DType::kF32));
  convert_to_f32(bytes.data(), info.dtype, t.tensor.host<float>(), info.shape.elements());
  return t;
}

class Side {
 public:
  virtual ~Side() = default;
  virtual void rewind() {}  // before a run, not timed
  virtual Status run() = 0;
  virtual Status base() { return invalid_argument("this model has no base"); }
  virtual Tensor output() const = 0;  // f32, of the last run
};

// One transformer layer of a noisy forward: a full KV cache, the sink, the prompt.
class DitSide : public Side {
 public:
  static Expected<std::unique_ptr<Side>> open(const Setting& s, const TensorSource& inputs) {
    auto side = std::make_unique<DitSide>();
    LA_ASSIGN_OR_RETURN(DitConfig config, read_dit_config(s.folder + "/config.json"));
    LA_ASSIGN_OR_RETURN(TensorSourcePtr weights, open_tensors(s.folder + "/weights.safetensors"));
    DitTypes types(s.dtype);
    if (s.int8) types.weights = DType::kI8;
    LA_ASSIGN_OR_RETURN(side->dit_, S2vDit::load(config, *weights, s.backend, s.budget, types));
    LA_ASSIGN_OR_RETURN(side->latents_, input(s, inputs, "latents"));
    side->geometry_.latent_height = side->latents_.tensor.dim(2);
    side->geometry_.latent_width = side->latents_.tensor.dim(3);
    LA_RETURN_IF_ERROR(side->allocate(s, config));
    LA_RETURN_IF_ERROR(side->fill(s, inputs));
    return std::unique_ptr<Side>(std::move(side));
  }

  void rewind() override {
    Tensor x = output();
    std::memcpy(x.address(), x_.tensor.address(), x.bytes());
  }
  Status run() override {
    ForwardState* forward = &session_->activations.forwards.front();
    dit_->layer(0, *weight_groups_, {&forward, 1});
    return weight_groups_->status();
  }
  Tensor output() const override { return session_->activations.forwards.front().x.slice(0, geometry_.block_tokens()); }

 private:
  Status allocate(const Setting& s, const DitConfig& config) {
    LA_RETURN_IF_ERROR(s.backend.reserve(largest_ops(config, geometry_, s.dtype)));
    Arena measure;
    DitCaches(config, geometry_, 1, 1, DitTypes(s.dtype), measure);
    DitActivations(config, geometry_, s.dtype, measure);
    LA_ASSIGN_OR_RETURN(arena_, Arena::allocate(s.budget, MemoryCategory::kKvCache, measure.used_bytes()));
    DitCaches caches(config, geometry_, 1, 1, DitTypes(s.dtype), arena_);
    DitActivations activations(config, geometry_, s.dtype, arena_);
    session_ = std::make_unique<DitSession>(geometry_, std::move(caches), std::move(activations));
    LA_ASSIGN_OR_RETURN(weight_groups_, dit_->open_weight_groups({config.layers}, s.budget));
    return {};
  }

  // The operands of a layer, without the forwards that normally write them.
  Status fill(const Setting& s, const TensorSource& inputs) {
    constexpr int64_t kStart = 15;  // the second block of the second clip: a slot inside the KV cache, a shifted sink
    ForwardState& forward = session_->activations.forwards.front();
    DitCaches& caches = session_->caches;
    dit_->begin({.latents = latents_.tensor, .timestep = 500, .start_latent = kStart}, forward);
    caches.filled_latents.front() = geometry_.clip_latents;
    const KvCacheGuard cache(*caches.kv, host_queue(), {0, 0}, 0);
    const KeyValues own = *cache, sink = caches.sink.layers.front();
    const std::pair<const char*, Tensor> places[] = {{"cache_k", own.k},        {"cache_v", own.v},
                                                     {"sink_k", sink.k},        {"sink_v", sink.v},
                                                     {"prompt", caches.prompt}, {"e0", forward.time->projection}};
    for (const auto& [name, place] : places) {
      LA_ASSIGN_OR_RETURN(OwnedTensor value, input(s, inputs, name));
      ops::copy(s.backend, value.tensor, place);
    }
    forward.time->projected = true;
    LA_ASSIGN_OR_RETURN(x_, input(s, inputs, "x"));
    return {};
  }

  std::unique_ptr<S2vDit> dit_;
  DitGeometry geometry_;
  Arena arena_;
  std::unique_ptr<DitWeightGroups> weight_groups_;
  std::unique_ptr<DitSession> session_;
  OwnedTensor latents_, x_;
};

// A stream in its steady state: each run decodes the same latents once more.
class VaeSide : public Side {
 public:
  static Expected<std::unique_ptr<Side>> open(const Setting& s, const TensorSource& inputs) {
    auto side = std::make_unique<VaeSide>();
    LA_ASSIGN_OR_RETURN(TensorSourcePtr weights, open_tensors(s.folder + "/weights.safetensors"));
    LA_ASSIGN_OR_RETURN(side->vae_, WanVae::load(*weights, s.backend, s.budget, s.dtype));
    LA_ASSIGN_OR_RETURN(side->z_, input(s, inputs, "z"));  // [latents, 16, 1, h, w]
    int64_t height = side->z_.tensor.dim(3), width = side->z_.tensor.dim(4);
    LA_ASSIGN_OR_RETURN(side->stream_, VaeDecodeStream::open(*side->vae_, s.budget, height, width));
    Shape shape{(side->z_.tensor.dim(0) - 1) * kVaeFrames, height * kVaePixels, width * kVaePixels, 3};
    LA_ASSIGN_OR_RETURN(side->frames_, OwnedTensor::allocate(s.budget, MemoryCategory::kRuntime, shape, DType::kF32));
    LA_RETURN_IF_ERROR(side->step(0, side->frames_.tensor));
    return std::unique_ptr<Side>(std::move(side));
  }

  Status run() override {
    for (int64_t i = 1; i < z_.tensor.dim(0); ++i) {
      LA_RETURN_IF_ERROR(step(i, frames_.tensor.slice((i - 1) * kVaeFrames, kVaeFrames)));
    }
    return {};
  }
  Tensor output() const override { return frames_.tensor; }

 private:
  Status step(int64_t latent, const Tensor& frames) {
    const Tensor& z = z_.tensor;
    return stream_->step(z.slice(latent, 1).reshape({z.dim(1), 1, z.dim(3), z.dim(4)}), frames).status();
  }

  std::unique_ptr<WanVae> vae_;
  std::unique_ptr<VaeDecodeStream> stream_;
  OwnedTensor z_, frames_;
};

class AudioSide : public Side {
 public:
  static Expected<std::unique_ptr<Side>> open(const Setting& s, const TensorSource& inputs) {
    auto side = std::make_unique<AudioSide>();
    LA_ASSIGN_OR_RETURN(side->model_,
                        Wav2Vec2::load_file(s.folder, s.folder + "/weights.safetensors", s.backend, s.budget, s.dtype));
    LA_ASSIGN_OR_RETURN(side->samples_, input(s, inputs, "samples"));
    LA_ASSIGN_OR_RETURN(OwnedTensor once, side->model_->hidden_states(side->samples(), s.budget));
    int64_t frames = once.tensor.dim(1);
    const Wav2Vec2Config& config = side->model_->config();
    LA_ASSIGN_OR_RETURN(side->memory_, Wav2Vec2Memory::allocate(config, frames, s.dtype, s.backend, s.budget));
    side->activations_ = std::make_unique<Wav2Vec2Activations>(config, frames, s.dtype, side->memory_.arena);
    return std::unique_ptr<Side>(std::move(side));
  }

  Status run() override {
    model_->hidden_states(samples(), *activations_, output());
    return {};
  }
  Tensor output() const override { return memory_.states.tensor; }

 private:
  std::span<const float> samples() const {
    return {samples_.tensor.host<float>(), static_cast<size_t>(samples_.tensor.elements())};
  }

  std::unique_ptr<Wav2Vec2> model_;
  OwnedTensor samples_;
  Wav2Vec2Memory memory_;
  std::unique_ptr<Wav2Vec2Activations> activations_;
};

class TextSide : public Side {
 public:
  explicit TextSide(Budget& budget) : budget_(budget) {}
  static Expected<std::unique_ptr<Side>> open(const Setting& s, const TensorSource& inputs) {
    auto side = std::make_unique<TextSide>(s.budget);
    LA_ASSIGN_OR_RETURN(side->weights_, open_tensors(s.folder + "/weights.safetensors"));
    LA_ASSIGN_OR_RETURN(side->model_, Umt5::load(*side->weights_, s.backend, s.dtype));
    LA_ASSIGN_OR_RETURN(OwnedTensor ids, input(s, inputs, "ids"));
    for (int64_t i = 0; i < ids.tensor.elements(); ++i)
      side->ids_.push_back(static_cast<int32_t>(ids.tensor.host<float>()[i]));
    return std::unique_ptr<Side>(std::move(side));
  }

  Status run() override { return encode(ids_); }
  Status base() override { return encode({ids_.data(), 1}); }
  Tensor output() const override { return rows_.tensor; }

 private:
  Status encode(std::span<const int32_t> ids) {
    LA_ASSIGN_OR_RETURN(rows_, model_->encode(ids, budget_));
    return {};
  }

  Budget& budget_;
  TensorSourcePtr weights_;
  std::unique_ptr<Umt5> model_;
  std::vector<int32_t> ids_;
  OwnedTensor rows_;
};

Expected<std::unique_ptr<Side>> open_side(const std::string& model, const Setting& s) {
  LA_ASSIGN_OR_RETURN(TensorSourcePtr inputs, open_tensors(s.folder + "/inputs.safetensors"));
  if (model == "dit") return DitSide::open(s, *inputs);
  if (model == "vae") return VaeSide::open(s, *inputs);
  if (model == "audio") return AudioSide::open(s, *inputs);
  if (model == "text") return TextSide::open(s, *inputs);
  return invalid_argument("model '" + model + "' is none of dit, vae, audio, text");
}

Status check(const Setting& s, Side& side) {
  side.rewind();
  LA_RETURN_IF_ERROR(side.run());
  Tensor out = side.output();
  std::ofstream file(s.folder + "/ours.f32", std::ios::binary);
  file.write(static_cast<const char*>(out.address()), static_cast<std::streamsize>(out.bytes()));
  if (!file.flush()) return io_error(s.folder + "/ours.f32 cannot be written");
  std::cout << "checked" << std::endl;
  return {};
}

Status time_runs(Side& side, int count, bool base) {
  for (int i = 0; i < count; ++i) {
    side.rewind();
    auto begin = std::chrono::steady_clock::now();
    LA_RETURN_IF_ERROR(base ? side.base() : side.run());
    std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - begin;
    std::cout << (i > 0 ? " " : "") << ms.count();
  }
  std::cout << std::endl;
  return {};
}

Status serve(const std::string& model, const Setting& s) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Side> side, open_side(model, s));
  std::cout << s.backend.describe() << std::endl;
  std::string command;
  int count = 0;
  while (std::cin >> command) {
    if (command == "check") {
      LA_RETURN_IF_ERROR(check(s, *side));
    } else if ((command == "run" || command == "base") && std::cin >> count && count > 0) {
      LA_RETURN_IF_ERROR(time_runs(*side, count, command == "base"));
    } else {
      return invalid_argument("'" + command + "' is none of check, run N, base N");
    }
  }
  return {};
}

int run(int argc, char** argv) {
  if (argc < 3 || argc % 2 == 0) {
    std::cerr << "compare_side dit|vae|audio|text FOLDER [--threads N] [--dtype bf16|f32|int8]\n";
    return 2;
  }
  Budget budget;
  BackendOptions options{.budget = &budget};
  DType dtype = DType::kBF16;
  for (int i = 3; i < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    if (flag == "--threads") options.threads = std::atoi(argv[i + 1]);
    if (flag == "--dtype" && value == "f32") dtype = DType::kF32;
    if (flag == "--dtype" && value == "int8") options.int8_products = true;
  }
  auto backend = make_backend("cpu", options);
  Status status =
      backend.ok() ? serve(argv[1], {argv[2], dtype, options.int8_products, budget, **backend}) : backend.status();
  if (status.ok()) return 0;
  std::cerr << "compare_side: " << status.message() << "\n";
  return 1;
}

}  // namespace
}  // namespace liveavatar::bench

int main(int argc, char** argv) { return liveavatar::bench::run(argc, argv); }
