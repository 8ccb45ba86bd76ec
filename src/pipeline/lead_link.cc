#include "pipeline/lead_link.h"

#include "session/rank_job.h"

namespace liveavatar {

LeadLink::LeadLink(Group& group, const JobShape& shape)
    : group_(group), placement_(shape.placement), answers_(std::make_shared<SnapshotAnswers>(group)) {
  const Placement& placement = placement_;
  LA_CHECK(group.size() == placement.ranks() && group.rank() == 0);
  for (int rank = 1; rank < group.size(); ++rank) others_.push_back(rank);
  for (size_t stage = 0; stage < placement.stages.size(); ++stage) {
    const JobShape part = rank_shape(shape, placement, placement.rank_of(stage, 0));
    stages_.push_back({part.own_steps().count, part.blocks_in_flight()});
  }
  const bool shares = placement.samples(0) && placement.ulysses_size > 1;
  if (shares) stage_ = std::make_unique<SubGroup>(group, placement.members(0));
}

void LeadLink::close() {
  answers_->end();
  static_cast<void>(finish_reference());  // the group has the failure
  starts_.reset();
  sender_.reset();
  reference_.reset();
}

Status LeadLink::announce(const JobShape& shape, const Sampling& sampling, const RankSnapshotJob& snapshots) {
  const std::string text = to_text({shape, sampling, placement_, snapshots});
  for (int rank : others_) LA_RETURN_IF_ERROR(group_.send_text(rank, Tag::kJob, text));
  return {};
}

Status LeadLink::send_prompt(const Download& rows) {
  const int64_t count = rows.tensor().dim(0);
  for (int rank : others_) LA_RETURN_IF_ERROR(group_.send(rank, Tag::kPrompt, std::as_bytes(std::span(&count, 1))));
  return send_tensor(group_, others_, Tag::kPrompt, rows);
}

Status LeadLink::send_portrait(Backend& backend, const StaticImageLatents& latents) {
  for (const OwnedTensor* part : {&latents.first, &latents.last})
    LA_RETURN_IF_ERROR(send_tensor(group_, others_, Tag::kPortrait, Download(backend, part->tensor)));
  return {};
}

void LeadLink::open(VideoSession& session, Backend& backend) {
  LinkMemory& link = session.link();
  std::vector<int> first_stage = placement_.members(0);
  std::erase(first_stage, 0);
  if (!first_stage.empty()) starts_ = std::make_unique<BlockSender>(group_, first_stage, backend, link.starts);
  if (placement_.samples(0) && placement_.stages.size() > 1) {
    const std::vector<int> next{placement_.rank_of(1, 0)};
    sender_ = std::make_unique<BlockSender>(group_, next, backend, link.outboxes);
  }
}

Expected<std::optional<int>> LeadLink::awaited() const {
  for (const BlockSender* sender : {starts_.get(), sender_.get()}) {
    if (sender == nullptr) continue;
    LA_ASSIGN_OR_RETURN(const std::optional<int> rank, sender->awaited());
    if (rank) return rank;
  }
  return std::optional<int>();
}

Status LeadLink::begin(int64_t block, const BlockStart& start) {
  if (starts_ != nullptr) {
    LA_RETURN_IF_ERROR(starts_->begin(block, start));
    LA_RETURN_IF_ERROR(starts_->send(block, start.latents));
  }
  return sender_ == nullptr ? Status() : sender_->begin(block, start);
}

Status LeadLink::send(int64_t block, const Tensor& latents) {
  return sender_ == nullptr ? Status() : sender_->send(block, latents);
}

Status LeadLink::end_starts(int64_t block) { return starts_ == nullptr ? Status() : starts_->end(block); }

Status LeadLink::end(int64_t block) { return sender_ == nullptr ? Status() : sender_->end(block); }

Status LeadLink::start_reference(Backend& backend, const Tensor& latent) {
  reference_ = std::make_unique<Download>(backend, latent);
  const Tensor& host = reference_->tensor();
  for (int rank : others_)
    LA_RETURN_IF_ERROR(
        group_.start_send(rank, Tag::kReference, {static_cast<const std::byte*>(host.address()), host.bytes()}));
  return {};
}

Status LeadLink::finish_reference() {
  Status first;
  if (reference_ == nullptr) return first;
  for (int rank : others_) {
    const Status finished = group_.finish_send(rank, Tag::kReference);
    if (first.ok()) first = finished;
  }
  return first;
}

void LeadLink::request_snapshot(const SnapshotMark& mark) {
  answers_->expect(mark.id);
  for (BlockSender* sender : {starts_.get(), sender_.get()})
    if (sender != nullptr) sender->mark(mark);
}

// A stage's next block is the first that the stage before it has not sent.
int64_t LeadLink::next_finished(const BlockRange& blocks, int64_t begun) const {
  for (const BlockSchedule& stage : stages_) begun = stage.done(begun, stage.steps - 1);
  return blocks.first + begun;
}

Expected<bool> LeadLink::arrived() { return group_.arrived(last_rank(), Tag::kFinished); }

Status LeadLink::receive_finished(Backend& backend, const Tensor& latents, Buffer& host) {
  return liveavatar::receive_finished(group_, last_rank(), backend, latents, host);
}

Expected<std::vector<RankReport>> LeadLink::reports() {
  answers_->end();  // a rank reports when its last answer is taken
  LA_RETURN_IF_ERROR(finish_reference());
  std::vector<RankReport> reports;
  for (int rank : others_) {
    LA_ASSIGN_OR_RETURN(RankReport report, receive_report(group_, rank));
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace liveavatar
