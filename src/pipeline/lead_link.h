// The lead's end of a video on several ranks: what it tells the others, and the blocks that go to them and come back.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "pipeline/rank_run.h"
#include "pipeline/rank_snapshots.h"
#include "session/block_link.h"
#include "session/placement.h"
#include "session/video_session.h"

namespace liveavatar {

// A thread may send blocks while another receives finished ones.
class LeadLink {
 public:
  // shape: the lead's.
  LeadLink(Group& group, const JobShape& shape);
  ~LeadLink() { close(); }
  // Nothing is on its way any more, after a failure because nobody takes it. Before the session's memory ends.
  void close();

  Group& group() { return group_; }
  // The ranks that share the lead's steps; null: none do.
  Group* stage() { return stage_.get(); }
  // Whether other ranks have the last steps.
  bool finishes_elsewhere() const { return placement_.vae_rank || placement_.stages.size() > 1; }

  // Before anything else: what is to be made.
  Status announce(const JobShape& shape, const Sampling& sampling, const RankSnapshotJob& snapshots);
  // rows [tokens, text_dim] f32 of the text encoder.
  Status send_prompt(const Download& rows);
  Status send_portrait(Backend& backend, const StaticImageLatents& latents);
  // The session is prepared.
  void open(VideoSession& session, Backend& backend);

  // The rank for which begin() or send() of the next block would wait; none: neither would.
  Expected<std::optional<int>> awaited() const;
  // Keeps what the block travels with; other ranks of the lead's stage, or the first one, begin it.
  Status begin(int64_t block, const BlockStart& start);
  // After the lead's own steps, to the next stage.
  Status send(int64_t block, const Tensor& latents);
  // No block begins any more: to the ranks that begin one with the lead.
  Status end_starts(int64_t block);
  // After the last send(), to the next stage: no block follows.
  Status end(int64_t block);
  // The sink's latent from the second clip on. The others take it when they are done with the first one, which may need
  // the lead to go on: this only begins to send it. latent does not change any more.
  Status start_reference(Backend& backend, const Tensor& latent);

  // Whether receive_finished() would not wait.
  Expected<bool> arrived();
  // The next finished block's latents, into a tensor of this backend.
  Status receive_finished(Backend& backend, const Tensor& latents, Buffer& host);

  // Before the next block begins, when the lead has kept its own state: the others keep theirs, each before the block
  // that the mark reaches it with.
  void request_snapshot(const SnapshotMark& mark);
  // Of blocks that have begun and were not sent.
  Status visit_state(const BlockRange& blocks, const BlockMemory& memory, StateVisitor& visitor) {
    return sender_ == nullptr ? Status() : sender_->visit_state(blocks, memory, visitor);
  }
  // Of a snapshot at this moment of the lead: the first block that comes from the last stage behind it.
  int64_t next_finished(const BlockRange& blocks, int64_t begun) const;
  const std::shared_ptr<SnapshotAnswers>& answers() const { return answers_; }

  // After the last block.
  Expected<std::vector<RankReport>> reports();

 private:
  Status finish_reference();
  int last_rank() const { return placement_.rank_of(placement_.stages.size() - 1, 0); }

  Group& group_;
  Placement placement_;
  std::vector<BlockSchedule> stages_;  // of each stage
  std::vector<int> others_;
  std::unique_ptr<SubGroup> stage_;
  std::unique_ptr<Download> reference_;  // while it is sent
  std::shared_ptr<SnapshotAnswers> answers_;
  std::unique_ptr<BlockSender> starts_;  // to ranks that begin a block; null: none but the lead does
  std::unique_ptr<BlockSender> sender_;  // to the next stage; null: the lead's steps are the last, or it has none
};

}  // namespace liveavatar
