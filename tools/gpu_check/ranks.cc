// Two ranks on one card that share each step, as threads with a backend each: what they exchange goes through host
// memory, since a card is not linked with itself. The latents are those of one rank, to the bit.
#include <cstdio>
#include <thread>

#include "core/boundary.h"
#include "gpu_check.h"
#include "parallel/local_group.h"
#include "pipeline/synthetic_video.h"
#include "session/model_shapes.h"

namespace liveavatar::gpu_check {
namespace {

constexpr int kRanks = 2;
constexpr uint64_t kSeed = 420;

struct Sampled {
  std::vector<SyntheticVideo::Block> blocks;
  std::string link;
};

// Libraries choose by the number of rows, which two ranks divide: only our own kernels give equal bits.
Expected<JobShape> shape_of(const std::string& device) {
  const bool emulated = device == "cuda-emulated";
  JobShape shape;
  LA_ASSIGN_OR_RETURN(shape.shapes, named_model_shapes(emulated ? "mini" : "14b"));
  shape.shapes.dit.layers = 2;
  std::erase_if(shape.shapes.dit.audio_inject_layers, [](int64_t layer) { return layer >= 2; });
  shape.device = emulated ? "cuda" : device;
  shape.width = shape.image_width = emulated ? 64 : 384;
  shape.height = shape.image_height = emulated ? 64 : 256;
  shape.blocks = 2;
  shape.steps = emulated ? 1 : 4;
  shape.schedule = Schedule::kSequential;
  shape.tune = Tune::kOff;
  shape.video_model_only = true;
  shape.decode_beside = false;
  return shape;
}

// stage: null: all of each step.
Expected<Sampled> sample(const std::string& device, JobShape shape, Group* stage) {
  if (stage != nullptr) shape.rank.share = {stage->rank(), stage->size()};
  LA_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceSource> source, open_device(device));
  EngineOptions options;
  options.device = shape.device;
  options.decode_beside = shape.decode_beside;
  options.tune = shape.tune;
  LA_ASSIGN_OR_RETURN(const std::unique_ptr<Models> models, Models::without_weights(options, source.get()));
  const DitConfig& config = shape.shapes.dit;
  const TensorSourcePtr weights = synthetic_tensors(dit_tensors(config, *models->backend), kSeed);
  LA_ASSIGN_OR_RETURN(models->dit, S2vDit::load(config, *weights, *models->backend, *models->budget, shape.types()));
  LA_ASSIGN_OR_RETURN(const std::unique_ptr<SyntheticVideo> video,
                      SyntheticVideo::open(*models, *models->budget, shape, {.seed = kSeed, .stage = stage}));
  video->start();
  Denoiser::Run run = video->run();
  LA_RETURN_IF_ERROR(Denoiser::run_together(video->weights(), {&run, 1}));
  LA_RETURN_IF_ERROR(run.status);
  return Sampled{video->blocks(), video->link()};
}

Expected<std::vector<Sampled>> sample_on_ranks(const std::string& device, const JobShape& shape) {
  const std::vector<std::unique_ptr<Group>> groups = open_local_groups(std::vector<std::string>(kRanks, device));
  std::vector<Sampled> sampled(kRanks);
  std::vector<std::jthread> threads;
  for (size_t rank = 0; rank < groups.size(); ++rank) {
    threads.emplace_back([&, rank] {
      Expected<Sampled> own = contained("sample", [&] { return sample(device, shape, groups[rank].get()); });
      if (!own.ok()) return groups[rank]->abort(own.status());
      sampled[rank] = *std::move(own);
    });
  }
  threads.clear();
  LA_RETURN_IF_ERROR(groups.front()->status());
  return sampled;
}

Status compare(const std::string& device) {
  LA_ASSIGN_OR_RETURN(const JobShape shape, shape_of(device));
  LA_ASSIGN_OR_RETURN(const Sampled one, sample(device, shape, nullptr));
  LA_ASSIGN_OR_RETURN(const std::vector<Sampled> ranks, sample_on_ranks(device, shape));
  print_figure("ranks.one.seconds", one.blocks.back().at_seconds, "s");
  print_figure("ranks.two_on_one_card.seconds", ranks.front().blocks.back().at_seconds, "s");
  std::printf("exchanges over %s\n", ranks.front().link.c_str());
  for (int rank = 0; rank < kRanks; ++rank) {
    const Sampled& sampled = ranks[static_cast<size_t>(rank)];
    if (sampled.blocks.size() != one.blocks.size()) return corrupt("rank " + std::to_string(rank) + " made less");
    for (size_t i = 0; i < one.blocks.size(); ++i) {
      if (sampled.blocks[i].checksum != one.blocks[i].checksum)
        return corrupt("block " + std::to_string(i) + " of rank " + std::to_string(rank) + " is not that of one rank");
    }
  }
  std::printf("%zu blocks of %d ranks are those of one, to the bit\n", one.blocks.size(), kRanks);
  return {};
}

}  // namespace

int check_ranks(const std::string& device) {
  const Status status = contained("ranks", [&] { return compare(device); });
  if (!status.ok()) std::printf("%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace liveavatar::gpu_check
