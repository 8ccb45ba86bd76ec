// Pose videos: which frames are read, and frames as pixels and latents, clip after clip.
#include <algorithm>
#include <stdexcept>

#include "golden.h"
#include "session/pose.h"
#include "weights/find_parts.h"

namespace liveavatar::golden {
namespace {

template <typename T>
T must(Expected<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().message());
  return *std::move(value);
}

void read_pose(const Golden& golden, const nlohmann::json& call) {
  const auto& args = call.at("args");
  auto video = must(open_pose_video(golden.path(args.at("pose_video")), FrameRule::kOriginal));
  int64_t wanted = args.at("infer_frames").get<int64_t>() * args.at("num_clip").get<int64_t>();
  const std::vector<int64_t> places = args.at("some_of");
  std::vector<int32_t> indices;
  std::vector<std::vector<uint8_t>> frames;
  for (int64_t i = 0; i < wanted; ++i) {
    const Image* frame = must(video->next());
    if (frame == nullptr) break;
    indices.push_back(static_cast<int32_t>(video->index()));
    frames.push_back(frame->rgb);
    golden.exact(args.at("pose_video").get<std::string>() + " size",
                 frame->height == args.at("video_height") && frame->width == args.at("video_width"));
  }
  golden.exact(call.at("out").at("indices"), indices == golden.i32(call.at("out").at("indices")));
  std::vector<int32_t> some;
  for (int64_t place : places)
    some.insert(some.end(), frames.at(size_t(place)).begin(), frames.at(size_t(place)).end());
  golden.exact(call.at("out").at("some"), some == golden.i32(call.at("out").at("some")));
}

// [outer, n, inner] of each block, joined along the middle.
std::vector<float> join(const std::vector<std::vector<float>>& blocks, size_t outer) {
  std::vector<float> all;
  for (size_t o = 0; o < outer; ++o) {
    for (const auto& block : blocks) {
      size_t n = block.size() / outer;
      all.insert(all.end(), block.begin() + int64_t(o * n), block.begin() + int64_t((o + 1) * n));
    }
  }
  return all;
}

void pose_latents(const Golden& golden, const WanVae& vae, const nlohmann::json& call) {
  const auto& args = call.at("args");
  auto video = must(open_pose_video(golden.path(args.at("pose_video")), FrameRule::kOriginal));
  const WorkingSize size{args.at("height"), args.at("width")};
  const PoseShape shape{video->info().height, video->info().width, size, Fit::kOriginal};
  const PoseEncoder::Options options{shape, args.at("infer_frames"), true};
  auto pose = must(PoseEncoder::open(vae, *golden.budget, video.get(), options));
  std::vector<std::vector<float>> frames, latents;  // of the clip: a frame each, a block each
  pose->set_observer([&](const Tensor& pixels) {
    frames.emplace_back(pixels.host<float>(), pixels.host<float>() + pixels.elements());
  });
  Shape block{vae.config().z_dim, kBlockLatents, size.height / kVaePixels, size.width / kVaePixels};
  OwnedTensor out = must(OwnedTensor::allocate(*golden.budget, MemoryCategory::kRuntime, block, DType::kF32));
  for (int64_t clip = 0; clip <= args.at("clip").get<int64_t>(); ++clip) {
    frames.clear();
    latents.clear();
    for (int64_t b = 0; b < options.clip_frames / kBlockFrames; ++b) {
      if (!golden.ok("pose", pose->next_block(out.tensor))) return;
      latents.push_back(golden.values(out.tensor));
    }
  }
  golden.exact("frames a clip", frames.size() == args.at("pixel_frames_a_clip").get<size_t>());
  std::vector<std::vector<float>> some;
  for (const size_t frame : args.at("pixel_frames")) some.push_back(frames.at(frame));
  golden.compare(call.at("out").at("pixels"), join(some, 3));
  golden.compare_model(call.at("out").at("latents"), join(latents, size_t(block[0])), kPoseLatentsRms);
}

}  // namespace

void check_pose(const Golden& golden) {
  PartPaths paths = must(find_parts({.folder = golden.path(golden.config().at("ckpt_dir"))}));
  TensorSourcePtr weights = must(open_tensors(paths.vae));
  auto vae = must(WanVae::load(*weights, *golden.backend, *golden.budget, golden.dtype));
  for (const auto& call : golden.calls()) {
    std::string op = call.at("op");
    if (op == "read_pose") {
      read_pose(golden, call);
    } else if (op == "pose_latents") {
      pose_latents(golden, *vae, call);
    } else {
      throw std::runtime_error("unknown op '" + op + "'");
    }
  }
}

}  // namespace liveavatar::golden
