// `liveavatar plan`: what a job will hold, before anything is loaded.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_flags.h"
#include "cli/original_flags.h"
#include "media/image.h"
#include "paging/direct_file.h"
#include "pipeline/dit_source.h"
#include "pipeline/job.h"
#include "pipeline/solver.h"
#include "plan/like_original.h"
#include "plan/report.h"

namespace liveavatar::cli {
namespace {

struct Flags {
  EngineOptions engine;  // where the files lie
  std::string paging_dir, shape = "14b", image, size = "704*384", device_profile, devices;
  PlanRequest request;
  OriginalFlags original;
  int64_t num_clip = 1, infer_frames = 48;
  size_t memory_budget_bytes = 0, host_budget_bytes = 0;
  bool online_decode = false, no_online_decode = false, json = false, like_original = false, offload_kv_cache = false;
};

constexpr const char* kFooter =
    "Examples:\n"
    "  liveavatar plan --shape 14b --size \"384*256\" --num_clip 10 --memory_budget 64GiB\n"
    "  liveavatar plan --ckpt_dir models/mini --size \"128*128\" --json\n"
    "Exit codes: 0 it fits, 1 it does not (or failed), 2 usage. Keys of --json: docs/plan.md.";

void add_job(CLI::App& app, Flags& f) {
  add_model_flags(app, f.engine, "What to plan");  // configs and file headers are read
  app.add_option("--shape", f.shape, "Without a checkpoint: 14b, 1.3b or mini")
      ->check(CLI::IsMember({"14b", "1.3b", "mini"}))
      ->capture_default_str()
      ->group("What to plan");
  app.add_option("--size", f.size, "As for generate: an area")->capture_default_str()->group("What to plan");
  app.add_option("--image", f.image, "The portrait, whose aspect decides the shape (default: that of --size)")
      ->group("What to plan");
  app.add_option("--num_clip", f.num_clip, "Clips")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str()
      ->group("What to plan");
  app.add_option("--infer_frames", f.infer_frames, "Frames a clip")
      ->check(CLI::Range(1, 4800))
      ->capture_default_str()
      ->group("What to plan");
  app.add_option("--sample_steps", f.request.steps, "Denoising steps a block")
      ->check(CLI::Range(1, kMostSteps))
      ->capture_default_str()
      ->group("What to plan");
  app.add_flag("--enable_online_decode", f.online_decode, "The default")->group("What to plan");
  app.add_flag("--no_online_decode", f.no_online_decode, "Keep all latents to the end")->group("What to plan");
}

void add_machine(CLI::App& app, Flags& f) {
  app.add_option("--device", f.request.device, "cpu or reference")->capture_default_str()->group("Machine");
  app.add_option("--dtype", f.request.dtype, "bf16 or f32")
      ->check(CLI::IsMember({"bf16", "f32"}))
      ->capture_default_str()
      ->group("Machine");
  add_weights_dtype(app, f.request.weights_dtype)->group("Machine");
  app.add_flag_callback(
         "--fp8", [&f] { f.request.weights_dtype = "fp8"; }, "The original's name for --weights_dtype fp8")
      ->group("Machine");
  add_kv_dtype(app, f.request.kv_dtype)->group("Machine");
  add_int8_products(app, f.request.int8_products)->group("Machine");
  add_threads(app, f.request.threads)->group("Machine");
  add_memory(app, "--memory_budget", f.memory_budget_bytes, "Hold the plan against this much memory, e.g. 20GiB")
      ->group("Machine");
  add_memory(app, "--host_budget", f.host_budget_bytes,
             "Most host memory; the engine computes there today, so the smaller of both counts")
      ->group("Machine");
  app.add_option("--device_profile", f.device_profile,
                 "A card's memory and rates: rtx3060, rtx4090, a100, h100, h200,\n"
                 "or custom:24GiB,165e12,1008e9 (memory, flops a second, bytes a second)")
      ->group("Machine");
  app.add_option("--devices", f.devices, "Several, as in 4xrtx4090; one of them is used in this version")
      ->group("Machine");
  app.add_option("--paging_dir", f.paging_dir, "As for generate: weights, keys and values that do not fit stay there")
      ->group("Machine");
  app.add_flag("--offload_kv_cache", f.offload_kv_cache,
               "Keys and values of steps that are not running always go there")
      ->group("Machine");
  app.add_option("--schedule", f.request.schedule, "auto, sequential or wavefront")
      ->check(CLI::IsMember({"auto", "sequential", "wavefront"}))
      ->capture_default_str()
      ->group("Machine");
  add_original_flags(app, f.original, "Machine");
  app.add_flag("--json", f.json, "For programs")->group("Machine");
  app.add_flag("--like_original", f.like_original,
               "The Python original's way on 4 cards of 24 GB, beside ours: published rows and the model of them")
      ->group("Machine");
}

Expected<ModelShapes> shapes_of(const Flags& f) {
  if (!names_model(f.engine)) return named_model_shapes(f.shape);
  LA_ASSIGN_OR_RETURN(PartPaths paths, find_parts(part_request(f.engine)));
  return read_model_shapes(paths, f.engine.packed_dit);
}

// width and height of "704*384", as a picture of that shape.
Status set_picture(const Flags& f, PlanRequest& r) {
  LA_ASSIGN_OR_RETURN(Sides sides, parse_sides(f.size));
  r.picture_width = sides.width;
  r.picture_height = sides.height;
  if (f.image.empty()) return {};
  LA_ASSIGN_OR_RETURN(PortraitPlan portrait, plan_portrait(f.image, f.size, Fit::kCover));
  r.picture_width = portrait.picture.width;
  r.picture_height = portrait.picture.height;
  r.portrait_bytes = portrait.bytes;
  return {};
}

Expected<PlanRequest> request_of(const Flags& f) {
  PlanRequest r = f.request;
  LA_ASSIGN_OR_RETURN(r.shapes, shapes_of(f));
  LA_RETURN_IF_ERROR(set_picture(f, r));
  LA_ASSIGN_OR_RETURN(int64_t area, parse_size(f.size));
  LA_ASSIGN_OR_RETURN(WorkingSize size, working_size(r.picture_height, r.picture_width, area));
  r.height = size.height;
  r.width = size.width;
  r.clip_frames = clip_frames(f.infer_frames);
  r.blocks = f.num_clip * r.clip_frames / kBlockFrames;
  r.voice_samples = f.num_clip * r.clip_frames * kModelRateHz / kFps;
  r.online_decode = !f.no_online_decode;
  r.packed = (!f.engine.packed_dit.empty() || !f.paging_dir.empty()) && !f.original.all_in_memory();
  r.pack_first = r.packed && f.engine.packed_dit.empty();
  r.disk_rings = !f.paging_dir.empty();
  if (f.offload_kv_cache && r.disk_rings) r.resident_rings = 0;
  if (f.offload_kv_cache && !r.disk_rings) note_host_cache();
  return r;
}

double gib(size_t bytes) { return double(bytes) / double(size_t{1} << 30); }

void print_device(const Verdict& v) {
  if (!v.device) return;
  const DeviceProfile& d = *v.device;
  std::printf("\n%d x %s, %.2f GiB usable each: not yet in this version (it computes on the CPU, on one device).\n",
              d.count, d.name.c_str(), gib(d.memory_bytes));
  std::printf("One of them at its data sheet's rates: at least %.3f s a block of %.2f s.\n",
              seconds_per_block(v.work, d), double(kBlockFrames) / double(kFps));
}

void print_table(const Verdict& v) {
  const PlanRequest& r = v.request;
  std::string types = r.dtype;
  if (!r.weights_dtype.empty()) types += ", weights in " + r.weights_dtype;
  if (!r.kv_dtype.empty()) types += ", keys and values in " + r.kv_dtype;
  if (r.int8_products) types += ", products in 8 bits";
  std::printf("%ldx%ld, %ld blocks of %ld frames, %ld a clip, %ld steps, %s, %s decode, --device %s\n\n", long(r.width),
              long(r.height), long(r.blocks), long(kBlockFrames), long(r.clip_frames / kBlockFrames), long(r.steps),
              types.c_str(), r.online_decode ? "online" : "offline", r.device.c_str());
  std::printf("%-14s %12s %12s   %s\n", "tenant", "peak GiB", "steady GiB", "where it lives");
  for (size_t t = 0; t < kTenantCount; ++t) {
    Tenant tenant = static_cast<Tenant>(t);
    std::printf("%-14s %12.3f %12.3f   %s\n", tenant_name(tenant), gib(v.plan.peak_by_tenant[t]),
                gib(v.plan.steady_by_tenant[t]), placement(tenant, r).c_str());
  }
  std::printf("%-14s %12.3f %12.3f   the tenants' peaks need not meet\n\n", "all", gib(v.plan.peak_bytes),
              gib(v.plan.steady_bytes));
  for (const PlanStage& s : v.plan.stages)
    std::printf("stage %-8s %12.3f %12.3f   peak, and what stays\n", s.name.c_str(), gib(s.peak_bytes),
                gib(s.after_bytes));
  std::printf("\na block: %.2f Tflop in the video model, %.2f in the VAE, %s moved\n", v.work.dit_flops / 1e12,
              v.work.vae_flops / 1e12, gb_text(static_cast<uint64_t>(v.work.bytes)).c_str());
  if (r.paged() || r.rings_paged()) {
    std::printf("on disk: %s of weights, %s of keys and values; %s, %ld blocks in flight: %s moved a block\n",
                gb_text(v.plan.paged_bytes).c_str(), gb_text(v.plan.ring_bytes).c_str(), r.schedule.c_str(),
                long(r.blocks_in_flight()), gb_text(static_cast<uint64_t>(v.work.disk_bytes)).c_str());
  }
  print_device(v);
  if (v.budget_bytes > 0)
    std::printf("\nbudget %s: %s\n", budget_text(v.budget_bytes).c_str(), v.fits ? "fits" : "does not fit");
  for (const Cure& c : v.cures)
    std::printf("  %-28s %10.3f GiB   %s\n", c.flags.c_str(), gib(c.peak_bytes), c.costs.c_str());
}

// Published figures, our model of them, and what our engine needs for the same job on one device.
Status print_like_original(const Flags& f) {
  LA_ASSIGN_OR_RETURN(ModelShapes shapes, named_model_shapes("14b"));
  std::printf(
      "The original on 4 cards of 24 GB (%.2f GB usable); GB a card. Ours: one device, everything resident.\n\n",
      double(kUsable24Bytes) / 1e9);
  std::printf("%-9s %6s %-8s %10s %-9s %9s %-9s %12s\n", "size", "clips", "decode", "published", "verdict", "modelled",
              "verdict", "ours, GB");
  for (const PublishedRow& row : published_rows()) {
    LA_ASSIGN_OR_RETURN(OriginalPlan theirs, plan_like_original(shapes, row.job));
    PlanRequest r = f.request;
    r.shapes = shapes;
    r.height = row.job.height;
    r.width = row.job.width;
    r.blocks = row.job.clips * r.clip_frames / kBlockFrames;
    r.online_decode = row.job.online_decode;
    LA_ASSIGN_OR_RETURN(MemoryPlan ours, plan_memory(r));
    std::string size = std::to_string(row.job.width) + "x" + std::to_string(row.job.height);
    std::printf("%-9s %6ld %-8s %10.1f %-9s %9.1f %-9s %12.1f\n", size.c_str(), long(row.job.clips),
                row.job.online_decode ? "online" : "at end", row.peak_gb, verdict_name(row.verdict),
                double(theirs.peak_bytes()) / 1e9, verdict_name(judge_original(theirs.peak_bytes(), kUsable24Bytes)),
                double(ours.peak_bytes) / 1e9);
  }
  return {};
}

Expected<Verdict> judge_flags(const Flags& f) {
  LA_ASSIGN_OR_RETURN(PlanRequest request, request_of(f));
  size_t budget_bytes = 0;
  auto limit = [&](size_t bytes) {
    if (bytes > 0) budget_bytes = budget_bytes == 0 ? bytes : std::min(budget_bytes, bytes);
  };
  limit(f.memory_budget_bytes);
  limit(f.host_budget_bytes);
  std::optional<DeviceProfile> device;
  const std::string& name = f.devices.empty() ? f.device_profile : f.devices;
  if (!name.empty()) {
    LA_ASSIGN_OR_RETURN(device, device_profile(name));
    limit(device->memory_bytes);
  }
  LA_ASSIGN_OR_RETURN(Verdict verdict, judge(request, budget_bytes));
  verdict.device = device;
  return verdict;
}

int plan(Flags& f) {
  if (Status found = find_local_files(f.engine); !found.ok()) return report(found);
  if (f.like_original) {
    Status status = print_like_original(f);
    return status.ok() ? 0 : report(status);
  }
  auto verdict = judge_flags(f);
  if (!verdict.ok()) return report(verdict.status());
  for (const std::string& note : {threads_note(f.request.threads), products_note(verdict->request, verdict->plan)})
    if (!note.empty()) std::fprintf(stderr, "%s\n", note.c_str());
  if (f.json) {
    std::printf("%s\n", to_json(*verdict).c_str());
  } else {
    print_table(*verdict);
    for (const std::string& line : explain(f.original)) std::printf("%s\n", line.c_str());
  }
  return verdict->fits ? 0 : 1;
}

}  // namespace

Command add_plan(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("plan", "Show how much memory a job takes, before anything is loaded");
  command->footer(kFooter);
  command->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add_job(*command, *flags);
  add_machine(*command, *flags);
  return [flags] { return plan(*flags); };
}

}  // namespace liveavatar::cli
