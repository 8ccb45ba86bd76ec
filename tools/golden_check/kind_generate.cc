// The whole job: checkpoint folder, LoRA, portrait, voice, prompt and noise in; latents and frames of three clips out.
#include <algorithm>
#include <map>
#include <stdexcept>

#include "golden.h"
#include "models/wan_vae/static_image.h"
#include "ops/transfer.h"
#include "pipeline/engine.h"
#include "session/actor_masks.h"
#include "session/frame_decoder.h"
#include "session/rank_devices.h"
#include "session/speakers.h"

namespace liveavatar::golden {
namespace {

// Whatever the run shows, collected under the golden's output names.
struct Seen {
  std::vector<int32_t> ids;
  std::map<std::string, std::vector<float>> tensors;
  std::vector<std::vector<float>> audio, latents, poses, frames;  // a block each
};

std::vector<float> copy(const Tensor& t) { return {t.host<float>(), t.host<float>() + t.elements()}; }

// Blocks [outer, 3 or 12, inner] joined along the middle.
std::vector<float> join(const std::vector<std::vector<float>>& blocks, int64_t outer) {
  std::vector<float> all;
  for (int64_t o = 0; o < outer; ++o) {
    for (const auto& block : blocks) {
      int64_t n = static_cast<int64_t>(block.size()) / outer;
      all.insert(all.end(), block.begin() + o * n, block.begin() + (o + 1) * n);
    }
  }
  return all;
}

// All dimensions but the last.
int64_t rows_of(const Shape& shape) { return shape.elements() / shape[shape.rank() - 1]; }

// The golden's frames [3, n, H, W] at frame_index; pieces are [4, H, W, 3], and the first three frames are not shown.
std::vector<float> pick_frames(const Golden& golden, const Seen& seen, const std::string& index, int64_t pixels) {
  std::vector<int32_t> wanted = golden.i32(index);
  std::vector<float> out(size_t(3 * pixels) * wanted.size());
  for (size_t n = 0; n < wanted.size(); ++n) {
    int64_t at = wanted[n] + kHeldFrames;
    const float* frame = seen.frames.at(size_t(at / kVaeFrames)).data() + at % kVaeFrames * pixels * 3;
    for (int64_t i = 0; i < pixels * 3; ++i)
      out[(size_t(i % 3) * wanted.size() + n) * size_t(pixels) + size_t(i / 3)] = frame[i];
  }
  return out;
}

RunHooks hooks_for(const Golden& golden, const nlohmann::json& call, Seen& seen, std::vector<float>& noise) {
  RunHooks hooks;
  noise = golden.f32(call.at("in").at("noise"));
  hooks.noise = [&noise](int64_t block, std::span<float> out) {
    std::copy_n(noise.begin() + block * int64_t(out.size()), out.size(), out.begin());
  };
  hooks.token_ids = [&seen](std::span<const int32_t> ids) { seen.ids.assign(ids.begin(), ids.end()); };
  hooks.latents = [&seen](int64_t, const Tensor& latents) { seen.latents.push_back(copy(latents)); };
  hooks.tensor = [&seen](const char* name, const Tensor& value) {
    std::string text = name;
    if (text == "audio_features") {
      seen.audio.push_back(copy(value));
    } else if (text == "pose_latents") {
      seen.poses.push_back(copy(value));
    } else if (text == "frames") {
      seen.frames.push_back(copy(value));
    } else {
      seen.tensors[text] = copy(value);
    }
  };
  return hooks;
}

// Latents 0, 1, 2, 6, 18, 45, 91 of the portrait repeated.
std::vector<float> motion_latents(Models& models, const GenerateRequest& job) {
  Budget unlimited;
  auto file = PortraitFile::open(job.image, *parse_size(job.size), job.fit);
  if (!file.ok()) throw std::runtime_error(file.status().message());
  auto portrait = file->read(unlimited);
  if (!portrait.ok()) throw std::runtime_error(portrait.status().message());
  Shape shape{3, portrait->height, portrait->width};
  auto pixels = OwnedTensor::allocate(*models.budget, MemoryCategory::kConditioning, shape, DType::kF32);
  if (!pixels.ok()) throw std::runtime_error(pixels.status().message());
  image_to_pixels(*portrait, Upload(*models.backend, pixels->tensor).f32());
  const int64_t indices[] = {0, 1, 2, 6, 18, 45, 91};
  auto latents = encode_repeated(*models.vae, *models.budget, pixels->tensor, indices);
  if (!latents.ok()) throw std::runtime_error(latents.status().message());
  return copy(Download(*models.backend, latents->tensor).tensor());
}

// [actors, 12, rows, columns] of a clip; every block was given the first three of the twelve.
void check_actor_masks(const Golden& golden, const GenerateRequest& job, const std::string& name, Seen& seen) {
  Shape shape = golden.shape(name);
  TokenGrid grid{shape[1], shape[2], shape[3]};
  auto pictures = find_masks(job.masks, static_cast<size_t>(shape[0]));
  if (!golden.ok(name, pictures.status())) return;
  std::vector<TokenMask> actors;
  for (const MaskImages& actor : *pictures) {
    auto tokens = stretched_tokens(actor, grid);
    if (!golden.ok(name, tokens.status())) return;
    actors.push_back(*tokens);
  }
  assign_tokens(actors);
  for (TokenMask& mask : actors) widen(mask, grid);
  std::vector<int32_t> all;
  std::vector<float> first;
  for (const TokenMask& mask : exclude_others(actors)) {
    all.insert(all.end(), mask.begin(), mask.end());
    first.insert(first.end(), mask.begin(), mask.begin() + kBlockLatents * grid.rows * grid.columns);
  }
  golden.exact(name, all == golden.i32(name));
  golden.exact(name + " of blocks", first == seen.tensors["actor_masks"]);
}

EngineOptions options_of(const Golden& golden, const nlohmann::json& args) {
  EngineOptions options = golden.ranks;
  options.checkpoint_dir = golden.path(args.at("ckpt_dir"));
  options.lora_path = golden.path(args.at("lora"));
  options.lora_alpha = args.at("lora_alpha");
  options.device = golden.device;
  options.dtype = golden.dtype == DType::kBF16 ? ComputeType::kBf16 : ComputeType::kF32;
  options.weights_dtype = *parse_weights_type(golden.weights_dtype);
  options.kv_dtype = *parse_kv_type(golden.kv_dtype);
  options.int8_products = golden.int8_products;
  options.threads = golden.backend->threads();
  return options;
}

GenerateRequest job_of(const Golden& golden, const nlohmann::json& args) {
  GenerateRequest job;
  job.image = golden.path(args.at("image"));
  job.audio = golden.voices(args.at("audio"));
  for (const std::string mask : args.value("masks", nlohmann::json::array())) job.masks.push_back(golden.path(mask));
  job.original_speakers = true;
  if (args.contains("pose_video")) job.pose_video = golden.path(args.at("pose_video"));
  job.original_pose = true;
  job.prompt = args.at("prompt");
  job.size = args.at("size");
  job.fit = Fit::kOriginal;
  job.num_clip = args.at("num_clip");
  job.infer_frames = args.at("infer_frames");
  job.sample_steps = args.at("sample_steps");
  if (args.contains("sample_solver")) job.sample_solver = *parse_sample_solver(args.at("sample_solver"));
  job.sample_shift = args.value("sample_shift", job.sample_shift);
  return job;
}

void check_call(const Golden& golden, const nlohmann::json& call) {
  const auto& args = call.at("args");
  const auto& out = call.at("out");
  auto checkpoint = Checkpoint::open(options_of(golden, args));
  if (!golden.ok("open", checkpoint.status())) return;
  auto models = load_models(*std::move(checkpoint), golden.source);
  if (!golden.ok("load", models.status())) return;
  const auto devices = rank_devices((*models)->options());
  if (!golden.ok("devices", devices.status())) return;
  std::unique_ptr<LocalRanks> ranks;
  if (devices->size() > 1) {
    auto opened = LocalRanks::open(**models, *devices);
    if (!golden.ok("ranks", opened.status())) return;
    ranks = *std::move(opened);
  }
  const GenerateRequest job = job_of(golden, args);
  Seen seen;
  std::vector<float> noise;
  int64_t pixels = 0;
  RunCalls calls;
  calls.hooks = hooks_for(golden, call, seen, noise);
  calls.on_chunk = [&](const VideoChunk& block) {
    pixels = block.height * block.width;
    return true;
  };
  auto resolved = resolve(resolve_options(*(*models)->checkpoint), job);
  if (!golden.ok("resolve", resolved.status())) return;
  if (!golden.ok("hear", hear(*resolved, {.past_voice = true}))) return;
  resolved->sampling.relative_dist = args.at("relative_dist");
  if (ranks != nullptr) calls.ranks = &ranks->begin();
  const Status made = run_job(**models, *resolved, calls);
  if (ranks != nullptr) ranks->end();
  if (!golden.ok("generate", made)) return;

  std::vector<int32_t> ids = golden.i32(out.at("token_ids"));
  ids.resize(std::min(ids.size(), seen.ids.size()));
  golden.exact(out.at("token_ids"), ids == seen.ids);
  golden.compare(out.at("context"), seen.tensors["context"]);
  golden.compare(out.at("ref_latent"), seen.tensors["ref_latent"]);
  golden.compare(out.at("motion_latents"), motion_latents(**models, job));
  golden.compare(out.at("audio_features"), join(seen.audio, rows_of(golden.shape(out.at("audio_features")))));
  golden.compare(out.at("latents"), join(seen.latents, (*models)->shapes().dit.channels));
  if (out.contains("pose_latents"))
    golden.compare(out.at("pose_latents"), join(seen.poses, (*models)->shapes().dit.channels));
  if (out.contains("actor_masks")) check_actor_masks(golden, job, out.at("actor_masks"), seen);
  golden.compare(out.at("frames"), pick_frames(golden, seen, out.at("frame_index"), pixels));
}

}  // namespace

void check_generate(const Golden& golden) {
  for (const auto& call : golden.calls()) {
    if (call.at("op") != "generate") throw std::runtime_error("unknown op");
    check_call(golden, call);
  }
}

}  // namespace liveavatar::golden
