// stop_latency [SIZE] [THREADS]: how soon a stop is heard in each stage of a job of the 14 B model's shape, on
// synthetic weights. Two layers stand for all: a stop is heard between layers, so that their number does not matter.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "models/umt5/umt5.h"
#include "models/wan_vae/static_image.h"
#include "models/wav2vec2/audio_features.h"
#include "one_block.h"
#include "ops/make_backend.h"
#include "ops/transfer.h"
#include "session/denoiser.h"
#include "session/frame_decoder.h"
#include "session/noise.h"
#include "weights/stoppable_source.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kSeed = 420;
constexpr int64_t kLayers = 2;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Runs a stage to see how long it takes, then again with stops at several moments of it.
Status measure(const char* name, const std::function<Status(std::stop_token)>& stage) {
  Clock::time_point begin = Clock::now();
  LA_RETURN_IF_ERROR(stage({}));
  const double whole_s = seconds_since(begin);
  double worst_s = 0;
  int stopped = 0;
  for (double share : {0.1, 0.3, 0.5, 0.7}) {
    std::stop_source source;
    std::atomic<Clock::time_point> asked{Clock::time_point{}};
    std::jthread asking([&] {
      std::this_thread::sleep_for(std::chrono::duration<double>(share * whole_s));
      asked = Clock::now();
      source.request_stop();
    });
    Status status = stage(source.get_token());
    const Clock::time_point end = Clock::now();
    asking.join();
    if (status.ok()) continue;  // it was over before
    if (status.code() != ErrorCode::kCancelled) return status;
    ++stopped;
    worst_s = std::max(worst_s, std::chrono::duration<double>(end - asked.load()).count());
  }
  std::printf("%-10s %8.2f s in all, %d stops, heard within %.3f s\n", name, whole_s, stopped, worst_s);
  return {};
}

struct Bench {
  JobShape shape;
  Budget budget;
  std::unique_ptr<Backend> backend;
  TensorSourcePtr dit, text, vae, audio;
  std::vector<std::unique_ptr<OwnedTensor>> kept;

  Status open(int64_t area, int threads) {
    LA_ASSIGN_OR_RETURN(shape.shapes, named_model_shapes("14b"));
    LA_ASSIGN_OR_RETURN(WorkingSize size, working_size(384, 704, area));
    shape.height = size.height;
    shape.width = size.width;
    shape.shapes.dit.layers = kLayers;
    shape.shapes.dit.audio_inject_layers = {0};
    shape.shapes.text.layers = kLayers;
    LA_ASSIGN_OR_RETURN(backend, make_backend("cpu", {.threads = threads, .budget = &budget}));
    dit = synthetic(dit_tensors(shape.shapes.dit, *backend));
    vae = synthetic(asked([&](WeightSizer& sizer) { return load_vae_weights(shape.shapes.vae, sizer).status(); }));
    audio =
        synthetic(asked([&](WeightSizer& sizer) { return load_wav2vec2_weights(shape.shapes.audio, sizer).status(); }));
    text = synthetic(asked([&](WeightSizer& sizer) -> Status {
      LA_ASSIGN_OR_RETURN(Umt5Memory memory,
                          Umt5Memory::allocate(shape.shapes.text, 1, DType::kBF16, *backend, sizes_));
      const int32_t id = 0;
      return stream_umt5(shape.shapes.text, {&id, 1}, sizer, memory.page, {});
    }));
    return {};
  }
  std::map<std::string, Shape> asked(const std::function<Status(WeightSizer&)>& load) {
    WeightSizer sizer(*backend, sizes_, MemoryCategory::kWeights, DType::kBF16);
    LA_CHECK(load(sizer).ok());
    return sizer.asked();
  }
  static TensorSourcePtr synthetic(const std::map<std::string, Shape>& shapes) {
    return synthetic_tensors(shapes, kSeed);
  }
  Expected<Tensor> noise(Shape of) {
    LA_ASSIGN_OR_RETURN(OwnedTensor t, OwnedTensor::allocate(budget, MemoryCategory::kConditioning, of, DType::kF32));
    kept.push_back(std::make_unique<OwnedTensor>(std::move(t)));
    const Tensor& tensor = kept.back()->tensor;
    fill_noise(kSeed, 1, Upload(*backend, tensor).values());
    return tensor;
  }

 private:
  Budget sizes_{Budget::DryRun()};
};

Status measure_video_model(Bench& b) {
  const DitConfig& c = b.shape.shapes.dit;
  const DitGeometry g = b.shape.geometry();
  LA_RETURN_IF_ERROR(measure("load", [&](std::stop_token stop) {
    return S2vDit::load(c, *stoppable(b.dit, stop), *b.backend, b.budget, DType::kBF16).status();
  }));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<S2vDit> dit, S2vDit::load(c, *b.dit, *b.backend, b.budget, DType::kBF16));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DitWeightGroups> pages, dit->open_weight_groups({kLayers}, b.budget));
  LA_ASSIGN_OR_RETURN(BlockMemory memory, BlockMemory::allocate(b.shape, b.budget));
  LA_ASSIGN_OR_RETURN(Tensor rows, b.noise({c.text_len, c.text_dim}));
  LA_ASSIGN_OR_RETURN(Tensor motion, b.noise({c.channels, kMotionLatents, g.latent_height, g.latent_width}));
  auto open = [&](const std::stop_token& stop) {
    Denoiser::Options options;
    options.stop = stop;
    auto denoiser = *Denoiser::open(*dit, *b.backend, b.budget, b.shape, options);
    denoiser->set_prompt(rows);
    return denoiser;
  };
  LA_RETURN_IF_ERROR(measure(
      "prefill", [&](std::stop_token stop) { return open(stop)->prefill(*pages, memory.reference.tensor, motion); }));
  OneBlock channel(memory);
  return measure("sample", [&](std::stop_token stop) { return open(stop)->run(*pages, {0, 1}, channel).status(); });
}

Status measure_others(Bench& b) {
  const DitGeometry g = b.shape.geometry();
  LA_RETURN_IF_ERROR(measure("text", [&](std::stop_token stop) -> Status {
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Umt5> text, Umt5::load(*b.text, *b.backend, DType::kBF16));
    return text->encode(std::vector<int32_t>(128, 7), b.budget, stop).status();
  }));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<WanVae> vae, WanVae::load(*b.vae, *b.backend, b.budget, DType::kBF16));
  LA_ASSIGN_OR_RETURN(Tensor image, b.noise({3, b.shape.height, b.shape.width}));
  LA_RETURN_IF_ERROR(measure(
      "image", [&](std::stop_token stop) { return encode_static_image(*vae, b.budget, image, stop).status(); }));
  const int64_t z = b.shape.shapes.vae.z_dim;
  LA_ASSIGN_OR_RETURN(Tensor first, b.noise({z, 1, g.latent_height, g.latent_width}));
  LA_ASSIGN_OR_RETURN(Tensor latents, b.noise({z, kBlockLatents, g.latent_height, g.latent_width}));
  LA_RETURN_IF_ERROR(measure("decode", [&](std::stop_token stop) -> Status {
    LA_ASSIGN_OR_RETURN(std::unique_ptr<FrameDecoder> decoder,
                        FrameDecoder::open(*vae, first, b.budget, {nullptr, stop}));
    return decoder->decode(latents, 0).status();
  }));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Wav2Vec2> model,
                      Wav2Vec2::load(b.shape.shapes.audio, *b.audio, *b.backend, b.budget, DType::kBF16));
  std::vector<float> sound(size_t{60} * kModelRateHz);
  fill_noise(kSeed, 2, sound);
  return measure("audio", [&](std::stop_token stop) -> Status {
    SampleSource source(sound);
    LA_ASSIGN_OR_RETURN(Loudness loudness, measure_loudness(source, stop));
    LA_ASSIGN_OR_RETURN(std::unique_ptr<AudioFeatures> features,
                        AudioFeatures::open(*model, b.budget, source, loudness));
    features->set_stop(stop);
    std::vector<float> columns(static_cast<size_t>(features->layers() * features->width() * kBlockFrames));
    return features->columns(0, kBlockFrames, columns.data());
  });
}

Status run(const std::string& size, int threads) {
  LA_ASSIGN_OR_RETURN(int64_t area, parse_size(size));
  Bench bench;
  LA_RETURN_IF_ERROR(bench.open(area, threads));
  std::printf("%ldx%ld, %d threads\n", long(bench.shape.width), long(bench.shape.height), bench.backend->threads());
  LA_RETURN_IF_ERROR(measure_others(bench));
  return measure_video_model(bench);
}

}  // namespace
}  // namespace liveavatar

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::string size = argc > 1 ? argv[1] : "384*256";
  liveavatar::Status status = liveavatar::run(size, argc > 2 ? std::atoi(argv[2]) : 0);
  if (!status.ok()) std::fprintf(stderr, "stop_latency: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
