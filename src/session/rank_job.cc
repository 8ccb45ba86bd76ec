#include "session/rank_job.h"

#include <limits>

#include "core/json.h"
#include "weights/weights_key.h"

namespace liveavatar {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

// What has to be the same on all ranks, for people to compare.
std::string models_text(const JobShape& s) {
  const DitConfig& c = s.shapes.dit;
  auto number = [](int64_t n) { return std::to_string(n); };
  return number(c.layers) + " layers of width " + number(c.dim) + " with " + number(c.heads) + " heads, " +
         compute_type_name(s.dtype) + ", weights " + s.weights_name() + (s.int8_products ? " in 8-bit products" : "") +
         ", keys and values " + s.kv_name() + (s.shard_weights ? ", layers dealt to the ranks" : "");
}

// All that the forwards of a model depend on.
std::string config_text(const JobShape& s) {
  DitConfig config = s.shapes.dit;
  config.video_size.clear();  // the lead's decides
  return dit_config_json(config);
}

Status check_models(JsonReader& lead, const JobShape& own) {
  const std::string theirs = lead.text("models", ""), ours = models_text(own);
  if (theirs != ours)
    return invalid_argument("this rank has another model or other types than rank 0: " + ours + "; there: " + theirs +
                            "; start all ranks with the same flags and files");
  const std::string their_config = lead.text("config", ""), our_config = config_text(own);
  if (their_config != our_config)
    return invalid_argument("this rank's video model has another config.json than rank 0's: " + our_config +
                            "; there: " + their_config + "; start all ranks with the same files");
  if (!may_be_same_weights(lead.text("weights", ""), own.shapes.dit_key))
    return invalid_argument(
        "this rank has other weights of the video model than rank 0, or merges other adapters; start all ranks with "
        "the same files in `checkpoint_dir` or `dit_path`, and the same `lora_path`, `lora_alpha` and `loras`");
  return {};
}

}  // namespace

std::string to_text(const RankJob& job) {
  const JobShape& s = job.shape;
  nlohmann::json stages = nlohmann::json::array();
  for (const StepRange& steps : job.placement.stages) stages.push_back(steps.count);
  const nlohmann::json json{{"models", models_text(s)},
                            {"config", config_text(s)},
                            {"weights", s.shapes.dit_key},
                            {"height", s.height},
                            {"width", s.width},
                            {"clip_frames", s.clip_frames},
                            {"blocks", s.blocks},
                            {"steps", s.steps},
                            {"one_host", s.one_host},
                            {"resident_layers", s.resident_layers},
                            {"resident_kv_caches", s.resident_kv_caches},
                            {"wavefront", s.schedule == Schedule::kWavefront},
                            {"actors", s.actors()},
                            {"pose", !s.pose.empty()},
                            {"solver", sample_solver_name(job.sampling.solver)},
                            {"shift", job.sampling.shift},
                            {"seed", std::to_string(job.sampling.seed)},
                            {"relative_dist", job.sampling.relative_dist},
                            {"check_finite", check_finite_name(job.sampling.check_finite)},
                            {"stages", stages},
                            {"ulysses_size", job.placement.ulysses_size},
                            {"vae_rank", job.placement.vae_rank},
                            {"snapshot_folder", job.snapshots.folder},
                            {"resume_block", job.snapshots.resume.block},
                            {"resume_id", job.snapshots.resume.id}};
  return json_text(json);
}

Expected<RankJob> parse_rank_job(const std::string& text, const JobShape& models, int rank) {
  const std::string where = "the lead's job";
  LA_ASSIGN_OR_RETURN(const nlohmann::json json, parse_json(text, where));
  JsonReader reader(json, where);
  LA_RETURN_IF_ERROR(check_models(reader, models));
  RankJob job;
  JobShape shape = models;
  shape.height = reader.number("height", 1, kMost);
  shape.width = reader.number("width", 1, kMost);
  shape.clip_frames = reader.number("clip_frames", kBlockFrames, kMost);
  shape.blocks = reader.number("blocks", 1, kMost);
  shape.steps = reader.number("steps", 1, kMost);
  shape.schedule = reader.flag("wavefront", false) ? Schedule::kWavefront : Schedule::kSequential;
  shape.one_host = reader.flag("one_host", false);
  if (shape.one_host) {  // what the lead decided for all
    shape.resident_layers = reader.number("resident_layers", -1, kMost);
    shape.resident_kv_caches = reader.number("resident_kv_caches", -1, kMost);
  }
  shape.more_voices.assign(static_cast<size_t>(reader.number("actors", 1, 64)) - 1, 0);
  if (reader.flag("pose", false)) shape.pose.video_height = shape.pose.video_width = 1;
  const Expected<SampleSolver> solver = parse_sample_solver(reader.text("solver", ""));
  const Expected<CheckFinite> check = parse_check_finite(reader.text("check_finite", "block"));
  job.sampling.shift = reader.real("shift", 0, std::numeric_limits<double>::max());
  job.sampling.seed = std::strtoull(reader.text("seed", "0").c_str(), nullptr, 10);
  job.sampling.relative_dist = reader.number("relative_dist", 0, kMost);
  job.placement.stages.clear();
  StepRange steps;
  for (int64_t count : reader.numbers("stages", 1, kMost)) {
    steps = {steps.first + steps.count, count};
    job.placement.stages.push_back(steps);
  }
  job.placement.ulysses_size = static_cast<int>(reader.number("ulysses_size", 1, 1024));
  job.placement.vae_rank = reader.flag("vae_rank", false);
  job.snapshots.folder = reader.text("snapshot_folder", "");
  job.snapshots.resume = {reader.number("resume_block", 0, kMost), reader.number("resume_id", 0, kMost)};
  shape.snapshots = !job.snapshots.folder.empty();
  LA_RETURN_IF_ERROR(reader.status());
  LA_ASSIGN_OR_RETURN(job.sampling.solver, solver);
  LA_ASSIGN_OR_RETURN(job.sampling.check_finite, check);
  shape.solver_tensors = solver_history_tensors(job.sampling.solver);
  job.shape = rank_shape(shape, job.placement, rank);
  return job;
}

}  // namespace liveavatar
