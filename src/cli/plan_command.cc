// `liveavatar plan`: the memory of a job, before anything is loaded.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "cli/cards_table.h"
#include "cli/commands.h"
#include "cli/field_flags.h"
#include "cli/flags.h"
#include "cli/job_flags.h"
#include "cli/model_flags.h"
#include "cli/original_flags.h"
#include "cli/placement_table.h"
#include "cli/resume_flags.h"
#include "cli/script_flags.h"
#include "core/size_text.h"
#include "media/image.h"
#include "ops/make_backend.h"
#include "paging/direct_file.h"
#include "pipeline/plan_ranks.h"
#include "pipeline/resolve.h"
#include "plan/card_advice.h"
#include "plan/reference_cost.h"
#include "plan/report.h"
#include "session/snapshot_size.h"

namespace liveavatar::cli {
namespace {

struct Flags : JobFlags {
  EngineOptions engine;
  std::string shape = "14b", device_profile, link = "pcie";
  PlannedDevices devices;  // of --device_profile and --devices
  OriginalFlags original;
  bool fp8 = false, json = false, reference_cost = false, cards = false, markdown = false;
  struct {
    std::string save_file, save_dir, report_file, sample_list;
    ResumeFlags resume;
    bool quiet = false;
  } of_generate;  // accepted, without effect on memory
  CLI::App* app = nullptr;

  // All flags of a `generate`: the plan is exact for that run.
  bool is_whole_job() const { return !job.image.empty() && !job.audio.empty() && app->count("--shape") == 0; }
};

constexpr const char* kFooter =
    "Examples:\n"
    "  liveavatar plan --shape 14b --size \"384*256\" --num_clip 10 --memory_budget 64GiB\n"
    "  liveavatar plan --ckpt_dir models/mini --size \"128*128\" --json\n"
    "  liveavatar plan --shape 14b --size \"384*256\" --device_profile rtx4090 --paging_dir DIR\n"
    "  liveavatar plan --shape 14b --size \"384*256\" --weights_dtype int8 --devices 4xrtx4090\n"
    "  liveavatar plan --ckpt_dir models/mini --size \"128*128\" --devices cpu:3 --enable_vae_parallel\n"
    "  liveavatar plan --cards\n"
    "  liveavatar plan ... as for generate: what that run will take\n"
    "Exit codes: 0 it fits, 1 it does not (or failed), 2 usage. Keys of --json: docs/plan.md.";

void add_model(CLI::App& app, Flags& f) {
  add_model_flags(app, f.engine, "What to plan");  // configs and file headers are read
  app.add_option("--shape", f.shape, "Without a checkpoint: 14b, 1.3b or mini")
      ->check(CLI::IsMember({"14b", "1.3b", "mini"}))
      ->capture_default_str()
      ->group("What to plan");
}

// Hidden: they are in lines of `generate`.
void add_ignored(CLI::App& app, Flags& f) {
  auto& g = f.of_generate;
  app.add_option("--save_file", g.save_file)->group("");
  app.add_option("--save_dir", g.save_dir)->group("");
  app.add_option("--report", g.report_file)->group("");
  app.add_option("--sample_list", g.sample_list)->group("");
  app.add_flag("--quiet", g.quiet)->group("");
  add_resume_flags(app, g.resume, "");
  add_script_flags(app);
}

void add_machine(CLI::App& app, Flags& f) {
  app.add_option("--device", f.engine.device, "cpu, cuda or reference")
      ->capture_default_str()
      ->group("Model and machine");
  add_dtype(app, f.engine.dtype)->group("Model and machine");
  add_weights_dtype(app, f.engine.weights_dtype)->group("Model and machine");
  app.add_flag("--fp8", f.fp8, "The original's name for --weights_dtype fp8")->group("Model and machine");
  add_kv_dtype(app, f.engine.kv_dtype)->group("Model and machine");
  add_activations_dtype(app, f.engine.int8_products)->group("Model and machine");
  add_tune(app, f.engine.tune)->group("Model and machine");
  add_threads(app, f.engine.threads)->group("Model and machine");
  add_decode_flags(app, f.engine, "Model and machine");
  add_cache_memory(app, f.engine.cache_bytes)->group("Model and machine");
  add_memory(app, "--memory_budget", f.engine.memory_budget_bytes, "Hold the plan against this much memory, e.g. 20GiB")
      ->group("Model and machine");
  add_memory(app, "--host_budget", f.engine.host_budget_bytes,
             "Most host memory beside a card; with --device cpu the smaller of both counts")
      ->group("Model and machine");
  app.add_option("--device_profile", f.device_profile,
                 "Plan for this card, which need not be here (--device cuda): rtx3060, rtx3090,\n"
                 "rtx4060ti, rtx4070, rtx4090, rtx5090, a10, l4, l40s, a100-40gb, a100,\n"
                 "h100, h200, b200, or custom:24GiB,165e12,1008e9,32e9 (memory, bf16 flops\n"
                 "a second, bytes a second of memory and of PCIe)")
      ->group("Model and machine");
  add_placement_flags(app, f.engine, f.link, "Model and machine");
  app.add_option("--paging_dir", f.engine.paging_dir,
                 "As for generate: folder on disk for weights and KV caches that do not fit")
      ->group("Model and machine");
  app.add_flag("--offload_kv_cache", f.engine.offload_kv_cache,
               "Keys and values of steps that are not running always go there")
      ->group("Model and machine");
  add_original_flags(app, f.original, "Model and machine");
}

void add_output(CLI::App& app, Flags& f) {
  app.add_flag("--json", f.json, "For programs")->group("What to print");
  app.add_flag("--reference_cost", f.reference_cost,
               "The memory of the Python original on 4 cards of 24 GB, published and modelled, beside ours")
      ->group("What to print");
  CLI::Option* cards =
      app.add_flag("--cards", f.cards, "What to run on which card with the 14B model, and the frame rate to expect")
          ->group("What to print");
  app.add_flag("--markdown", f.markdown, "The same as docs/cards.md")->needs(cards)->group("What to print");
}

// From a checkpoint's headers, or a shape by its name.
Expected<ResolveOptions> model_of(const Flags& f, EngineOptions& engine) {
  if (names_model(engine)) {
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, Checkpoint::open(engine));
    return resolve_options(*checkpoint);
  }
  bool lora = !engine.lora_path.empty() || !engine.loras.empty();
  if (lora && !f.of_generate.quiet)
    std::fprintf(stderr, "note: LoRA: its merge is not in the plan of a --shape; give --ckpt_dir DIR too\n");
  LA_RETURN_IF_ERROR(check_options(engine));
  LA_ASSIGN_OR_RETURN(ModelShapes shapes, named_model_shapes(f.shape));
  return ResolveOptions{model_shape(engine, shapes), kOriginalVideoSize, limits_of(engine)};
}

// A job with assumed parts: no portrait, no voice, or a model shape alone. engine: becomes what it would be loaded
// with.
Expected<ResolvedJob> resolve_assumed(const Flags& f, EngineOptions& engine) {
  if (!f.job.masks.empty() && f.job.audio.empty())
    return invalid_argument("--mask: give --audio left.wav+right.wav too, a voice for each mask");
  LA_ASSIGN_OR_RETURN(ResolveOptions model, model_of(f, engine));
  model.models.snapshots = f.of_generate.resume.resume;
  if (f.original.all_in_memory()) engine.page_weights = false;
  JobShape& models = model.models;
  const bool in_file = (!engine.packed_dit.empty() || !engine.paging_dir.empty()) && !f.original.all_in_memory();
  models.layers_in_host = from_host_memory(engine);
  models.packed = in_file || models.layers_in_host;
  models.pack_first = in_file && engine.packed_dit.empty();
  LA_ASSIGN_OR_RETURN(ResolvedJob job, resolve(model, f.job));
  if (models.layers_in_host) LA_RETURN_IF_ERROR(drop_idle_paging(engine, job));
  return job;
}

// What `generate` would run.
Expected<ResolvedJob> resolve_whole(const Flags& f, EngineOptions& engine) {
  if (!names_model(engine)) LA_RETURN_IF_ERROR(use_embedded_model(engine));
  LA_ASSIGN_OR_RETURN(ResolveOptions model, model_of(f, engine));
  model.models.snapshots = f.of_generate.resume.resume;
  LA_ASSIGN_OR_RETURN(ResolvedJob job, resolve(model, f.job));
  LA_RETURN_IF_ERROR(drop_idle_paging(engine, job));
  LA_RETURN_IF_ERROR(check_original_flags(f.original, job.shape));
  return job;
}

double gib(size_t bytes) { return double(bytes) / double(size_t{1} << 30); }

void print_device(const PlanReport& v) {
  if (!v.device) return;
  const DeviceProfile& d = *v.device;
  std::printf("\n1 x %s, %.2f GiB usable; predicted, not measured:\n", d.name.c_str(), gib(d.memory_bytes));
  std::optional<Prediction> p = v.prediction();
  if (!p) {
    std::printf("no frame rate for products in f32.\n");
    return;
  }
  std::printf("%.1f frames/s (a video has %ld), limited by: %s\n", p->frames_per_s(), long(kFps),
              limit_name(p->limit()));
  std::printf("a block of %ld frames: arithmetic %.3f s, card memory %.3f s, PCIe %.3f s, disk %.3f s",
              long(kBlockFrames), p->arithmetic_seconds, p->card_memory_seconds, p->pcie_seconds, p->disk_seconds);
  if (p->disk_seconds > 0) std::printf(" (assumed: %.1f GB/s)", kDiskBytesPerS / 1e9);
  std::printf("\nat its data sheet's rates: at least %.3f s\n", least_seconds_per_block(v.work, d));
}

void print_placement_limits(const PlanReport& v) {
  const PlacementReport& p = *v.placement;
  auto fits = [](bool yes) { return yes ? "fits" : "does not fit"; };
  std::printf("\n");
  if (v.limits.device_bytes > 0)
    std::printf("budget of each device %s: %s\n", limit_text(v.limits.device_bytes).c_str(),
                fits(p.fits(v.limits.device_bytes, 0)));
  std::printf("host budget of all %s, a part for each; together they take %.3f GiB: %s\n",
              limit_text(v.placement_host_bytes).c_str(), gib(p.host_peak_of_all()),
              fits(p.fits(0, v.placement_host_bytes)));
}

void print_table(const PlanReport& v) {
  const JobShape& r = v.request;
  std::string types = compute_type_name(r.dtype);
  if (r.weights_dtype != WeightsType::kSameAsDtype) types += std::string(", weights in ") + r.weights_name();
  if (r.kv_dtype != KvType::kSameAsDtype) types += std::string(", keys and values in ") + r.kv_name();
  if (r.int8_products) types += ", activations in int8";
  std::printf(
      "video model of %ld layers, %ld wide: %ldx%ld, %ld blocks of %ld frames, %ld a clip, %ld steps, %s, %s decode, "
      "--device %s\n\n",
      long(r.shapes.dit.layers), long(r.shapes.dit.dim), long(r.width), long(r.height), long(r.blocks),
      long(kBlockFrames), long(r.clip_frames / kBlockFrames), long(r.steps), types.c_str(),
      r.online_decode ? "online" : "offline", r.device.c_str());
  if (v.placement) std::printf("one device that makes the whole video:\n");
  if (!v.ranks.empty()) std::printf("rank 0%s:\n", r.one_host ? ", and what the others add to this host" : "");
  std::printf("%-14s %12s %12s   %s\n", "category", "peak GiB", "steady GiB", "placement");
  for (size_t t = 0; t < kCategoryCount; ++t) {
    MemoryCategory category = static_cast<MemoryCategory>(t);
    std::printf("%-14s %12.3f %12.3f   %s\n", category_name(category), gib(v.plan.peak_by_category[t]),
                gib(v.plan.steady_by_category[t]), placement(category, r).c_str());
  }
  std::printf("%-14s %12.3f %12.3f   categories peak at different times\n\n", "all", gib(v.plan.peak_bytes),
              gib(v.plan.steady_bytes));
  for (const PlanStage& s : v.plan.stages)
    std::printf("stage %-8s %12.3f %12.3f   peak, and what stays\n", s.name.c_str(), gib(s.peak_bytes),
                gib(s.after_bytes));
  std::printf("\na block: %.2f Tflop in the video model, %.2f in the VAE, %s moved\n", v.work.dit_flops() / 1e12,
              v.work.vae_flops / 1e12, gb_text(static_cast<uint64_t>(v.work.bytes)).c_str());
  if (r.paged() || r.kv_caches_paged()) {
    auto print = [&](const char* where, size_t weights, size_t caches, double moved) {
      std::printf("%s: %s of weights, %s of keys and values; %s, %ld blocks in flight: %s moved a block\n", where,
                  gb_text(weights).c_str(), gb_text(caches).c_str(), schedule_name(r.schedule),
                  long(r.blocks_in_flight()), gb_text(static_cast<uint64_t>(moved)).c_str());
    };
    const MemoryPlan& p = v.plan;
    if (r.beside_host_memory()) print("off the card", p.paged_bytes, p.kv_cache_bytes, v.work.link_bytes);
    if (v.work.disk_bytes > 0) print("on disk", p.paged_disk_bytes, p.kv_cache_disk_bytes, v.work.disk_bytes);
  }
  if (v.plan.host.peak_bytes > 0)
    std::printf("\nhost memory beside the card: %.3f GiB at the peak\n", gib(v.plan.host.peak_bytes));
  print_device(v);
  if (v.placement) {
    print_placement(*v.placement, *v.device);
    print_placement_limits(v);
    if (v.fits) return;
  }
  if (!v.ranks.empty()) print_ranks(v);
  auto print_limit = [](const char* name, size_t limit_bytes, size_t peak_bytes) {
    if (limit_bytes > 0)
      std::printf("%s %s: %s\n", name, limit_text(limit_bytes).c_str(),
                  peak_bytes <= limit_bytes ? "fits" : "does not fit");
  };
  const MemoryLimits limits = v.placement ? MemoryLimits() : v.limits;  // those of a placement are said
  if (limits.device_bytes > 0 || limits.host_bytes > 0) std::printf("\n");
  print_limit("budget", limits.device_bytes, v.plan.peak_bytes);
  print_limit("host budget", limits.host_bytes, v.plan.host.peak_bytes);
  for (const Suggestion& c : v.suggestions)
    std::printf("  %-28s %10.3f GiB   %s\n", c.settings.c_str(), gib(c.peak_bytes), c.costs.c_str());
}

// Published figures, our model of them, and what our engine needs for the same job on one device.
Status print_reference_cost(const Flags& f) {
  LA_ASSIGN_OR_RETURN(ModelShapes shapes, named_model_shapes("14b"));
  std::printf(
      "The original on 4 cards of 24 GB (%.2f GB usable); GB a card. Ours: one device, everything resident.\n\n",
      double(kUsable24Bytes) / 1e9);
  std::printf("%-9s %6s %-8s %10s %-9s %9s %-9s %12s\n", "size", "clips", "decode", "published", "result", "modelled",
              "result", "ours, GB");
  for (const PublishedRow& row : published_rows()) {
    LA_ASSIGN_OR_RETURN(ReferencePlan theirs, plan_reference_cost(shapes, row.job));
    JobShape r = model_shape(f.engine, shapes);
    r.steps = f.job.sample_steps;
    r.height = row.job.height;
    r.width = row.job.width;
    r.blocks = row.job.clips * r.clip_frames / kBlockFrames;
    r.online_decode = row.job.online_decode;
    LA_ASSIGN_OR_RETURN(MemoryPlan ours, plan_memory(r));
    std::string size = std::to_string(row.job.width) + "x" + std::to_string(row.job.height);
    std::printf("%-9s %6ld %-8s %10.1f %-9s %9.1f %-9s %12.1f\n", size.c_str(), long(row.job.clips),
                row.job.online_decode ? "online" : "at end", row.peak_gb, reference_fit_name(row.fit),
                double(theirs.peak_bytes()) / 1e9,
                reference_fit_name(fit_of_reference(theirs.peak_bytes(), kUsable24Bytes)),
                double(ours.peak_bytes) / 1e9);
  }
  return {};
}

// The smallest budget is the engine's.
void resolve_budget(Flags& f) {
  size_t& budget_bytes = f.engine.memory_budget_bytes;
  auto limit = [&](size_t bytes) { budget_bytes = smaller_limit(budget_bytes, bytes); };
  if (!f.engine.devices.empty()) f.engine = planned_lead(f.engine);
  if (!is_card(f.engine.device)) limit(std::exchange(f.engine.host_budget_bytes, 0));
  if (!f.devices.cards) return;
  limit(f.devices.cards->memory_bytes);
  if (f.engine.host_budget_bytes == 0) f.engine.host_budget_bytes = kAdvisedHostBytes;
}

Status resolve_flags(Flags& f) {
  LA_RETURN_IF_ERROR(check_script_flags(*f.app));
  if (!f.of_generate.sample_list.empty())
    return invalid_argument("--sample_list: one video is planned at a time; give its --image and --audio instead");
  LA_RETURN_IF_ERROR(resolve_job(f));
  LA_RETURN_IF_ERROR(resolve_fp8(f.fp8, f.engine.weights_dtype));
  std::vector<std::string> notes;
  LA_ASSIGN_OR_RETURN(f.devices, planned_devices(*f.app, f.device_profile, f.engine, notes));
  for (const std::string& note : notes)
    if (!f.of_generate.quiet) std::fprintf(stderr, "note: %s\n", note.c_str());
  if (f.engine.offload_kv_cache && f.engine.paging_dir.empty() && !is_card(f.engine.device)) {
    if (!f.of_generate.quiet) note_host_cache();
    f.engine.offload_kv_cache = false;
  }
  return find_local_files(f.engine);
}

// Of several cards with a profile. host_budget_bytes: as it was given, of all.
Status add_placement(const Flags& f, size_t host_budget_bytes, const JobShape& asked, PlanReport& plan_report) {
  const std::optional<DeviceProfile>& device = plan_report.device;
  if (!device || device->count == 1) return {};
  if (plan_report.work.products == DType::kF32) return {};  // no frame rate either
  PlacementQuestion question{*device, plan_report.limits.device_bytes, LinkType::kPcie, {}, asked};
  question.host_bytes =
      host_budget_bytes > 0 ? host_budget_bytes : kAdvisedHostBytes * static_cast<size_t>(device->count);
  LA_ASSIGN_OR_RETURN(question.link, link_type(f.link));
  question.request = f.devices.request;
  question.asked.shard_weights = f.devices.shards;
  if (question.asked.shard_weights) question.asked.packed = question.asked.layers_in_host = false;
  LA_ASSIGN_OR_RETURN(plan_report.placement, report_placement(question.asked, plan_report.work, question));
  plan_report.placement_host_bytes = question.host_bytes;
  plan_report.fits = plan_report.placement->fits(question.memory_bytes, question.host_bytes);
  if (plan_report.fits) plan_report.suggestions.clear();
  return {};
}

// Of several devices by their names.
Status add_ranks(const ResolvedJob& job, const EngineOptions& engine, const EngineOptions& asked,
                 PlanReport& plan_report) {
  if (job.shape.placement.ranks() == 1) return {};
  LA_ASSIGN_OR_RETURN(plan_report.ranks, plan_ranks(job, engine, asked));
  for (const RankUse& rank : plan_report.ranks) plan_report.fits = plan_report.fits && rank.fits;
  return {};
}

Expected<PlanReport> report_of(Flags& f) {
  const EngineOptions asked = f.engine;
  resolve_budget(f);
  EngineOptions engine = f.engine;
  Expected<ResolvedJob> job = f.is_whole_job() ? resolve_whole(f, engine) : resolve_assumed(f, engine);
  LA_RETURN_IF_ERROR(job.status());
  LA_ASSIGN_OR_RETURN(PlanReport plan_report, plan_report_of(job->asked, job->shape, job->plan, job->limits));
  plan_report.device = f.devices.cards;
  LA_RETURN_IF_ERROR(add_placement(f, asked.host_budget_bytes, job->asked, plan_report));
  LA_RETURN_IF_ERROR(add_ranks(*job, engine, asked, plan_report));
  for (Suggestion& suggestion : plan_report.suggestions) {
    suggestion.settings = in_flags(suggestion.settings);
    suggestion.costs = in_flags(suggestion.costs);
  }
  return plan_report;
}

// What a placement that does not fit can be with other flags: each is planned, and those that fit are told.
Expected<std::vector<Suggestion>> placement_changes(const Flags& f) {
  std::vector<Suggestion> found;
  struct Weights {
    WeightsType type;
    const char *flag, *costs;
  };
  for (const Weights& w : {Weights{f.engine.weights_dtype, "", "time: ranks read weights from each other"},
                           Weights{WeightsType::kInt8, "`weights_dtype` int8", "8-bit weights: frames differ little"},
                           Weights{WeightsType::kQ4, "`weights_dtype` q4", "4-bit weights: frames differ"}}) {
    if (w.type == f.engine.weights_dtype && *w.flag != 0) continue;
    for (const bool shards : {f.devices.shards, true}) {
      Flags changed = f;
      changed.engine.weights_dtype = w.type;
      if (w.type == WeightsType::kQ4) changed.engine.int8_products = false;
      changed.devices.shards = shards;
      const Expected<PlanReport> changed_report = report_of(changed);
      if (!changed_report.ok() && changed_report.status().code() != ErrorCode::kOutOfMemory)
        return changed_report.status();
      if (!changed_report.ok() || !changed_report->fits) continue;
      const std::vector<size_t>& peaks = changed_report->placement->peak_bytes;
      const std::string dealt = shards == f.devices.shards ? "" : "--dit_fsdp";
      const std::string both = *w.flag != 0 && !dealt.empty() ? " + " : "";
      found.push_back({w.flag + both + dealt, w.costs, *std::max_element(peaks.begin(), peaks.end())});
      break;
    }
  }
  return found;
}

Expected<PlanReport> make_report(Flags& f) {
  const Flags asked = f;
  LA_ASSIGN_OR_RETURN(PlanReport plan_report, report_of(f));
  if (!plan_report.placement || plan_report.fits) return plan_report;
  LA_ASSIGN_OR_RETURN(plan_report.suggestions, placement_changes(asked));
  for (Suggestion& suggestion : plan_report.suggestions) suggestion.settings = in_flags(suggestion.settings);
  return plan_report;
}

int plan(Flags& f) {
  if (Status resolved = resolve_flags(f); !resolved.ok()) return report(resolved);
  if (f.reference_cost || f.cards) {
    Status status = f.cards ? print_cards(f.markdown) : print_reference_cost(f);
    return status.ok() ? 0 : report(status);
  }
  auto plan_report = make_report(f);
  if (!plan_report.ok()) return report(plan_report.status());
  for (const std::string& note :
       {threads_note(f.engine.threads), products_note(plan_report->request, plan_report->plan)})
    if (!note.empty() && !f.of_generate.quiet) std::fprintf(stderr, "%s\n", in_flags(note).c_str());
  if (f.json) {
    std::printf("%s\n", to_json(*plan_report).c_str());
  } else {
    print_table(*plan_report);
    if (f.of_generate.resume.resume)
      std::printf("snapshots (--resume): %s each on disk, %d are kept\n",
                  mib(snapshot_bytes(plan_report->request)).c_str(), f.of_generate.resume.keep);
    for (const std::string& line : explain(f.original)) std::printf("%s\n", line.c_str());
  }
  return plan_report->fits ? 0 : 1;
}

}  // namespace

Command add_plan(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("plan", "Show how much memory a job takes, before anything is loaded");
  command->footer(kFooter);
  command->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  flags->app = command;
  add_model(*command, *flags);
  add_job_flags(*command, *flags);
  add_machine(*command, *flags);
  add_output(*command, *flags);
  add_ignored(*command, *flags);
  return [flags] { return plan(*flags); };
}

}  // namespace liveavatar::cli
