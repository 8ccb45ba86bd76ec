#include "pipeline/rank_run.h"

#include <algorithm>
#include <chrono>

#include "core/boundary.h"
#include "core/json.h"
#include "core/size_text.h"
#include "ops/transfer.h"
#include "pipeline/rank_snapshots.h"
#include "plan/rank_plan.h"
#include "session/block_link.h"
#include "session/rank_job.h"
#include "session/video_session.h"

namespace liveavatar {
namespace {

// One video on one rank.
class RankRun : LatentChannel, VideoInputs {
 public:
  RankRun(Models& models, Group& group, const RankJob& job)
      : models_(models),
        group_(group),
        job_(job),
        stage_ranks_(job.placement.members(stage())),
        snapshots_(group, job.snapshots) {}
  // What is on its way is taken, or given up, while its memory is there.
  ~RankRun() override {
    sender_.reset();
    if (finishes()) static_cast<void>(group_.finish_send(0, Tag::kFinished));
  }
  RankRun(const RankRun&) = delete;
  RankRun& operator=(const RankRun&) = delete;

  Status run() {
    const RankPart& rank = job_.shape.rank;
    if (!rank.share.whole()) stage_group_ = std::make_unique<SubGroup>(group_, stage_ranks_);
    const VideoSession::Options options{.sampling = job_.sampling,
                                        .cache_folder = models_.options().paging_dir,
                                        .stop = group_.failure_token(),
                                        .stage = stage_group_.get()};
    session_ = std::make_unique<VideoSession>(models_, *models_.budget, job_.shape, options);
    LA_RETURN_IF_ERROR(session_->prepare(*this));
    LinkMemory& link = session_->link();
    Backend& backend = *models_.backend;
    const int member = static_cast<int>(rank.share.index);
    // The other ranks of the first stage begin a block with the lead.
    const int before = stage() == 0 ? 0 : job_.placement.rank_of(stage() - 1, member);
    receiver_ = std::make_unique<BlockReceiver>(group_, before, backend, session_->blocks(), link.inbox);
    if (!rank.ends) {
      const std::vector<int> next{job_.placement.rank_of(stage() + 1, member)};
      sender_ = std::make_unique<BlockSender>(group_, next, backend, link.outboxes);
    }
    if (job_.snapshots.resume.id != 0) LA_RETURN_IF_ERROR(restore());
    return sample_all();
  }

  std::string link() { return session_->denoiser().link(); }
  double sample_s() const { return sample_s_; }
  double waited_s() const { return waited_s_; }

 private:
  size_t stage() const { return job_.placement.stage_of(group_.rank()); }
  // Whether this rank sends finished blocks to the lead.
  bool finishes() const { return job_.shape.rank.ends && job_.shape.rank.share.index == 0; }

  void begin(Stage stage) override { group_.set_stage(stage_name(stage)); }

  // The next stage learns that no block follows when it has all that were in flight.
  Expected<int64_t> sample(const BlockRange& blocks) {
    const int64_t begun = resumed_.blocks.first == blocks.first ? resumed_.begun : 0;
    LA_ASSIGN_OR_RETURN(const int64_t made, session_->denoiser().run(session_->weights(), blocks, *this, begun));
    if (made < blocks.count && sender_ != nullptr) LA_RETURN_IF_ERROR(sender_->end(blocks.first + made));
    return made;
  }

  Status sample_all() {
    group_.set_stage(stage_name(Stage::kSample));
    const auto began = std::chrono::steady_clock::now();
    const double waited_before_s = group_.waited_s();
    const int64_t blocks = job_.shape.blocks, first_clip = std::min(blocks, job_.shape.clip_blocks());
    int64_t made = first_clip;
    if (resumed_.blocks.first == 0) {
      LA_ASSIGN_OR_RETURN(made, sample({0, first_clip}));
    }
    if (made == job_.shape.clip_blocks() && made < blocks) {
      LA_RETURN_IF_ERROR(
          receive_tensor(group_, 0, Tag::kReference, *models_.backend, session_->blocks().reference.tensor));
      LA_RETURN_IF_ERROR(session_->prefill());
      const BlockRange rest{first_clip, blocks - first_clip};
      LA_RETURN_IF_ERROR(sample(rest).status());
    }
    if (finishes()) LA_RETURN_IF_ERROR(group_.finish_send(0, Tag::kFinished));
    sender_.reset();  // the last block is taken
    snapshots_.end();
    sample_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    waited_s_ = group_.waited_s() - waited_before_s + session_->weights().counts().seconds_waited;
    return {};
  }

  // The state that this rank kept, from which the lead goes on with its own.
  Status restore() {
    const RankSnapshotJob& snapshots = job_.snapshots;
    LA_ASSIGN_OR_RETURN(const RankSnapshot from, open_rank_snapshot(snapshots.folder, snapshots.resume, group_.rank()));
    StateRestorer restorer(*from.state, *models_.backend);
    LA_RETURN_IF_ERROR(visit_state(from.moment, restorer));
    resumed_ = from.moment;
    return models_.backend->synchronize();
  }

  Status visit_state(const Denoiser::Moment& moment, StateVisitor& visitor) {
    Denoiser& denoiser = session_->denoiser();
    LA_RETURN_IF_ERROR(denoiser.visit_state(moment, session_->blocks(), visitor));
    if (sender_ == nullptr) return {};
    return sender_->visit_state(denoiser.in_flight(moment), session_->blocks(), visitor);
  }

  // The next message may ask for a snapshot: the state is kept before the block begins.
  Status before(const BlockRange& blocks, int64_t begun) override {
    LA_ASSIGN_OR_RETURN(const SnapshotMark mark, receiver_->next());
    if (mark.id == 0) return {};
    if (sender_ != nullptr) sender_->mark(mark);
    if (!receiver_->more()) {
      snapshots_.refuse(mark);
      return {};
    }
    const Denoiser::Moment moment{blocks, begun};
    snapshots_.keep(mark, moment, [&](SnapshotWriter& to) {
      StateSaver saver(to, *models_.backend);
      return visit_state(moment, saver);
    });
    return {};
  }

  // What the lead encoded.
  Expected<OwnedTensor> prompt(VideoSession& session) override {
    int64_t rows = 0;
    LA_RETURN_IF_ERROR(group_.receive(0, Tag::kPrompt, std::as_writable_bytes(std::span(&rows, 1))));
    const DitConfig& dit = job_.shape.shapes.dit;
    if (rows < 1 || rows > dit.text_len) return corrupt("rank 0 sent a prompt that is too long; it runs another model");
    LA_ASSIGN_OR_RETURN(OwnedTensor prompt,
                        OwnedTensor::allocate(session.budget().host(), MemoryCategory::kConditioning,
                                              {rows, dit.text_dim}, DType::kF32));
    LA_RETURN_IF_ERROR(receive_tensor(group_, 0, Tag::kPrompt, models_.text_backend(), prompt.tensor));
    return prompt;
  }

  Expected<StaticImageLatents> portrait(VideoSession& session) override {
    const Shape image{3, job_.shape.height, job_.shape.width};
    LA_ASSIGN_OR_RETURN(StaticImageLatents latents,
                        StaticImageLatents::allocate(models_.shapes().vae, image, session.budget()));
    for (const OwnedTensor* part : {&latents.first, &latents.last})
      LA_RETURN_IF_ERROR(receive_tensor(group_, 0, Tag::kPortrait, *models_.backend, part->tensor));
    return latents;
  }

  Expected<std::optional<BlockStart>> receive(int64_t block) override {
    LA_ASSIGN_OR_RETURN(std::optional<BlockStart> start, receiver_->receive(block));
    if (start && sender_ != nullptr) LA_RETURN_IF_ERROR(sender_->begin(block, *start));
    return start;
  }

  Status send(int64_t block, const Tensor& latents) override {
    if (sender_ != nullptr) return sender_->send(block, latents);
    if (!finishes()) return {};  // all ranks of the stage have the same
    return start_finished(group_, *models_.backend, latents, session_->link().finished_host);
  }

  Models& models_;
  Group& group_;
  const RankJob& job_;
  std::vector<int> stage_ranks_;
  std::unique_ptr<SubGroup> stage_group_;
  std::unique_ptr<VideoSession> session_;
  std::unique_ptr<BlockReceiver> receiver_;
  std::unique_ptr<BlockSender> sender_;
  RankSnapshots snapshots_;
  Denoiser::Moment resumed_;  // where the job goes on
  double sample_s_ = 0, waited_s_ = 0;
};

std::string to_text(const RankReport& r) {
  return json_text(nlohmann::json{{"part", r.part},
                                  {"planned_peak_bytes", r.planned_peak_bytes},
                                  {"peak_bytes", r.peak_bytes},
                                  {"sample_s", r.sample_s},
                                  {"waited_s", r.waited_s},
                                  {"link", r.link}});
}

Status fail(const Status& why, Group& group) {
  group.abort({why.code(), group.name_of(group.rank()) + ": " + why.message()});
  return group.status();
}

Expected<RankReport> make_video(Models& models, const MemoryLimits& limits, Group& group, const std::string& text) {
  LA_ASSIGN_OR_RETURN(const PlannedRank planned, plan_rank_job(text, models.checkpoint->shape(), group.rank(), limits));
  const RankShare wanted = planned.job.shape.shard();
  if (wanted.index != models.dit_share.index || wanted.ranks != models.dit_share.ranks)
    return invalid_argument("this rank has other layers than rank 0 deals to it; start all ranks with the same flags");
  if (limits.device_bytes != 0 && planned.plan.peak_bytes > limits.device_bytes) {
    return out_of_memory("`memory_budget_bytes` " + limit_text(limits.device_bytes) + ": its part of this job takes " +
                         need_text(planned.plan.peak_bytes, limits.device_bytes) +
                         "; raise it, or let more devices share the work");
  }
  RankRun run(models, group, planned.job);
  const Status made = contained("sample", [&] { return run.run(); });
  if (!made.ok()) return fail(made, group);  // before the run ends: what it sent is not waited for
  RankReport report;
  report.part = planned.job.placement.text(group.rank());
  report.planned_peak_bytes = planned.peak_bytes();
  report.peak_bytes = models.budget->peak_bytes();
  report.sample_s = run.sample_s();
  report.waited_s = run.waited_s();
  report.link = run.link();
  return report;
}

}  // namespace

Expected<bool> serve_video(Models& models, const MemoryLimits& limits, Group& group) {
  LA_ASSIGN_OR_RETURN(const std::string text, group.receive_text(0, Tag::kJob));
  if (text.empty()) return false;
  Expected<RankReport> report = contained("sample", [&] { return make_video(models, limits, group, text); });
  models.release_scratch();
  if (!report.ok()) return fail(report.status(), group);
  LA_RETURN_IF_ERROR(group.send_text(0, Tag::kReport, to_text(*report)));
  return true;
}

Expected<RankReport> receive_report(Group& group, int from) {
  LA_ASSIGN_OR_RETURN(const std::string text, group.receive_text(from, Tag::kReport));
  const std::string where = "the report of " + group.name_of(from);
  LA_ASSIGN_OR_RETURN(const nlohmann::json json, parse_json(text, where));
  JsonReader reader(json, where);
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  RankReport report;
  report.rank = from;
  report.place = group.place(from);
  report.part = reader.text("part", "");
  report.planned_peak_bytes = static_cast<size_t>(reader.number("planned_peak_bytes", 0, kMost));
  report.peak_bytes = static_cast<size_t>(reader.number("peak_bytes", 0, kMost));
  report.sample_s = reader.real("sample_s", 0, 1e12);
  report.waited_s = reader.real("waited_s", 0, 1e12);
  report.link = reader.text("link", "");
  LA_RETURN_IF_ERROR(reader.status());
  return report;
}

Status send_end(Group& group, int to) { return group.send_text(to, Tag::kJob, ""); }

}  // namespace liveavatar
