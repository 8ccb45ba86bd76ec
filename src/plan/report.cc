#include "plan/report.h"

#include "core/json.h"
#include "plan/renamed_keys.h"

namespace liveavatar {
namespace {

using Json = nlohmann::ordered_json;

Json categories_json(const MemoryPlan& plan, const JobShape& request) {
  Json categories = Json::object();
  for (size_t t = 0; t < kCategoryCount; ++t) {
    MemoryCategory category = static_cast<MemoryCategory>(t);
    categories[category_name(category)] = {{"peak_bytes", plan.peak_by_category[t]},
                                           {"steady_bytes", plan.steady_by_category[t]},
                                           {"placement", placement(category, request)}};
  }
  return categories;
}

Json job_json(const JobShape& r) {
  return {{"width", r.width},
          {"height", r.height},
          {"clip_frames", r.clip_frames},
          {"blocks", r.blocks},
          {"steps", r.steps},
          {"dtype", compute_type_name(r.dtype)},
          {"weights_dtype", r.weights_name()},
          {"kv_dtype", r.kv_name()},
          {"activations_dtype", activations_name(r)},
          {"online_decode", r.online_decode},
          {"device", r.device}};
}

// Of one of them. What the time model does not know is null.
Json device_json(const PlanReport& v) {
  const DeviceProfile& d = *v.device;
  Json json = {{"name", d.name},
               {"count", d.count},
               {"memory_bytes", d.memory_bytes},
               {"compute_capability", double(d.compute_capability) / 10},
               {"bf16_flops_per_s", d.bf16_flops_per_s},
               {"fp8_flops_per_s", d.fp8_flops_per_s},
               {"int8_ops_per_s", d.int8_ops_per_s},
               {"bytes_per_s", d.bytes_per_s},
               {"pcie_bytes_per_s", d.pcie_bytes_per_s},
               {"assumed_disk_bytes_per_s", kDiskBytesPerS},
               {"predicted_frames_per_s", nullptr},
               {"limit", nullptr},
               {"predicted_seconds_per_block", nullptr},
               {"seconds_per_block_at_least", least_seconds_per_block(v.work, d)},
               {"supported", true}};
  if (std::optional<Prediction> p = v.prediction()) {
    json["predicted_frames_per_s"] = p->frames_per_s();
    json["limit"] = limit_name(p->limit());
    json["predicted_seconds_per_block"] = {{"arithmetic", p->arithmetic_seconds},
                                           {"card_memory", p->card_memory_seconds},
                                           {"pcie", p->pcie_seconds},
                                           {"disk", p->disk_seconds}};
  }
  return json;
}

}  // namespace

std::string activations_name(const JobShape& r) { return r.int8_products ? "int8" : compute_type_name(r.dtype); }

Expected<PlanReport> make_plan_report(const JobShape& request, const MemoryLimits& limits) {
  LA_ASSIGN_OR_RETURN(JobShape shape, resolve_shape(request, limits));
  LA_ASSIGN_OR_RETURN(MemoryPlan plan, plan_memory(shape));
  return plan_report_of(request, shape, plan, limits);
}

Expected<PlanReport> plan_report_of(const JobShape& asked, const JobShape& shape, const MemoryPlan& plan,
                                    const MemoryLimits& limits) {
  PlanReport v;
  v.request = shape;
  v.plan = plan;
  v.work = work_per_block(shape, plan);
  v.limits = limits;
  v.fits = limits.keeps({plan, {}});
  if (!v.fits) {
    LA_ASSIGN_OR_RETURN(v.suggestions, find_suggestions(asked, limits));
  }
  return v;
}

namespace {

// Where what is not resident is. `all`: that it is on disk.
std::string others(int64_t in_host_memory, int64_t on_disk, const std::string& all) {
  if (in_host_memory == 0) return all;
  const std::string host = "in host memory";
  return on_disk == 0 ? "the others " + host
                      : std::to_string(in_host_memory) + " " + host + ", " + std::to_string(on_disk) + " on disk";
}

}  // namespace

std::string placement(MemoryCategory category, const JobShape& r) {
  switch (category) {
    case MemoryCategory::kWeights:
      if (!r.paged()) return "resident";
      return std::to_string(r.resident()) + " of " + std::to_string(r.shapes.dit.layers) + " layers resident, " +
             others(r.layers_beside(), r.shapes.dit.layers - r.resident() - r.layers_beside(),
                    "the others paged from disk");
    case MemoryCategory::kKvCache:
      if (!r.kv_caches_paged()) return "resident";
      return std::to_string(r.resident_kv_caches) + " of " + std::to_string(r.kv_caches().count()) +
             " KV caches (a step in a layer) resident, " +
             others(r.host_kv_caches, r.kv_caches().on_disk(), "the others paged");
    case MemoryCategory::kText:
      return "a layer at a time, freed after use";
    case MemoryCategory::kVae:
      return "resident; the encoder freed after use";
    case MemoryCategory::kMedia:
      return "resident; an estimate of the encoders";
    case MemoryCategory::kRuntime:
      return "resident; program and scratch";
    default:
      return "resident";
  }
}

std::string products_note(const JobShape& request, const MemoryPlan& plan) {
  if (!request.int8_products || plan.int8_products) return "";
  return "note: `int8_products`: the kernels that run here have none (AVX512-BF16 with VNNI and AMX have them); int8 "
         "weights are unpacked to bf16";
}

std::string to_json(const PlanReport& v) {
  Json json;
  json["peak_bytes"] = v.plan.peak_bytes;
  json["steady_bytes"] = v.plan.steady_bytes;
  json["session_bytes"] = v.plan.session_bytes;
  json["scratch_bytes"] = v.plan.scratch_bytes;
  json["budget_bytes"] = v.limits.device_bytes;
  json["host_budget_bytes"] = v.limits.host_bytes;
  json["fits"] = v.fits;
  json["host_peak_bytes"] = v.plan.host.peak_bytes;
  json["job"] = job_json(v.request);
  json["memory_by_category"] = categories_json(v.plan, v.request);
  json["paging"] = {{"layers", v.request.shapes.dit.layers},
                    {"resident_layers", v.request.resident()},
                    {"host_layers", v.request.layers_beside()},
                    {"paged_bytes", v.plan.paged_bytes},
                    {"paged_disk_bytes", v.plan.paged_disk_bytes},
                    {"paged_bytes_per_block", v.plan.paged_block_bytes},
                    {"paged_disk_bytes_per_block", v.plan.paged_block_disk_bytes},
                    {"kv_caches", v.request.kv_caches().count()},
                    {"resident_kv_caches", v.request.kv_caches().in_memory()},
                    {"host_kv_caches", v.request.host_kv_caches},
                    {"kv_cache_bytes_per_block", v.plan.kv_cache_bytes},
                    {"kv_cache_disk_bytes_per_block", v.plan.kv_cache_disk_bytes},
                    {"schedule", schedule_name(v.request.schedule)},
                    {"blocks_in_flight", v.request.blocks_in_flight()}};
  json["stages"] = Json::array();
  for (const PlanStage& s : v.plan.stages)
    json["stages"].push_back({{"name", s.name}, {"peak_bytes", s.peak_bytes}, {"after_bytes", s.after_bytes}});
  json["suggestions"] = Json::array();
  for (const Suggestion& c : v.suggestions) {
    json["suggestions"].push_back(  // all are available in this version
        {{"flags", c.settings}, {"costs", c.costs}, {"peak_bytes", c.peak_bytes}, {"available", true}});
  }
  json["work_per_block"] = {{"dit_flops", v.work.dit_flops()},
                            {"vae_flops", v.work.vae_flops},
                            {"bytes_moved", v.work.bytes},
                            {"link_bytes", v.work.link_bytes},
                            {"disk_bytes", v.work.disk_bytes}};
  if (v.device) json["device"] = device_json(v);
  if (v.placement) {
    json["placement"] = placement_json(*v.placement);
    json["placement"]["host_budget_bytes"] = v.placement_host_bytes;
    json["placement"]["host_peak_bytes"] = v.placement->host_peak_of_all();
  }
  for (const RankUse& rank : v.ranks)
    json["ranks"].push_back({{"device", rank.device},
                             {"does", rank.part},
                             {"peak_bytes", rank.peak_bytes},
                             {"host_peak_bytes", rank.host_peak_bytes},
                             {"fits", rank.fits}});
  add_renamed_keys(json);
  return json_text(json, 2);
}

std::string to_json(const RunReport& t) {
  Json json;
  json["predicted_peak_bytes"] = t.predicted_peak_bytes;
  json["measured_peak_bytes"] = t.measured_peak_bytes;
  json["charged_peak_bytes"] = t.charged_peak_bytes;
  json["budget_bytes"] = t.budget_bytes;
  json["host_predicted_peak_bytes"] = t.host_predicted_peak_bytes;
  json["host_charged_peak_bytes"] = t.host_charged_peak_bytes;
  json["frames"] = t.frames;
  json["video_encoder"] = t.video_encoder;
  json["memory_by_category"] = Json::object();
  for (const RunReport::Category& category : t.categories)
    json["memory_by_category"][category.name] = {{"predicted_bytes", category.predicted_bytes},
                                                 {"charged_bytes", category.charged_bytes}};
  json["seconds"] = Json::object();
  for (const auto& [stage, seconds] : t.stage_seconds) json["seconds"][stage] = seconds;
  for (const RunReport::Rank& rank : t.ranks)
    json["ranks"].push_back({{"host", rank.host},
                             {"device", rank.device},
                             {"does", rank.part},
                             {"predicted_peak_bytes", rank.predicted_peak_bytes},
                             {"charged_peak_bytes", rank.charged_peak_bytes},
                             {"seconds", rank.seconds},
                             {"waited_seconds", rank.waited_seconds},
                             {"link", rank.link}});
  add_renamed_keys(json);
  return json_text(json, 2);
}

}  // namespace liveavatar
