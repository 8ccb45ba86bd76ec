// Snapshots of a run: what is kept, on which thread, and how it comes back.
#include "pipeline/job_run.h"

namespace liveavatar {

Status JobRun::restore(const ResumePoint& from) {
  Backend& backend = *models_.backend;
  FrameDecoder& decoder = session_.decoder();
  StateRestorer sampling(*from.state, backend), decoding(*from.state, decoder.backend());
  LA_RETURN_IF_ERROR(visit_sampling(from.moment, sampling));
  LA_RETURN_IF_ERROR(visit_decoding(decoding));
  LA_RETURN_IF_ERROR(backend.synchronize());
  LA_RETURN_IF_ERROR(decoder.backend().synchronize());
  output_.go_on(from.frames);
  const Denoiser::Moment& moment = from.moment;
  const int64_t block = moment.blocks.first + moment.begun;
  if (finishes_elsewhere()) {
    finished_ = from.frames / kBlockFrames;
    sent_ = sent_before_ = moment.blocks.first + sent(moment.begun);
    if (shape().decodes_beside()) first_done_.push(decoder.backend().record());
  }
  PoseEncoder* pose = session_.pose();
  return pose == nullptr ? Status() : pose->skip(block, session_.blocks().start(block).pose);
}

// What the decoder goes on with, and the sink's latent, which is there when the first frames are.
Status JobRun::visit_decoding(StateVisitor& visitor) {
  LA_RETURN_IF_ERROR(visitor.visit("reference", session_.blocks().reference.tensor));
  return session_.decoder().visit_state(visitor);
}

// Blocks of the range that the lead has sent, when so many have begun.
int64_t JobRun::sent(int64_t begun) { return shape().rank.samples ? session_.denoiser().sent(begun) : begun; }

// Of the range, in the state that was restored.
int64_t JobRun::begun(const BlockRange& blocks) const {
  return calls_.resume != nullptr && calls_.resume->moment.blocks.first == blocks.first ? calls_.resume->moment.begun
                                                                                        : 0;
}

// A snapshot that cannot be written is said, and the job goes on.
Status JobRun::before(const BlockRange& blocks, int64_t begun) {
  if (calls_.snapshots == nullptr) return {};
  Snapshots& snapshots = *calls_.snapshots;
  const Denoiser::Moment moment{blocks, begun};
  const int64_t next = link_ == nullptr ? blocks.first + sent(begun) : link_->next_finished(blocks, begun);
  if (!snapshots.due(next * kBlockFrames)) return {};
  // Where this thread decodes, too, the one before may lack the decoder's part; the others have all that it takes.
  while (!shape().decodes_beside() && finished_ <= snapshot_before_) LA_RETURN_IF_ERROR(take_finished());
  SnapshotWriter* const to = snapshots.begin(moment, next * kBlockFrames);
  if (to == nullptr) return {};
  if (const Status kept = keep_sampling(moment, *to); !kept.ok()) {
    snapshots.give_up(kept);
    return {};
  }
  if (finishes_elsewhere()) snapshot_before_ = next;
  if (link_ != nullptr) link_->request_snapshot(snapshots.mark());
  if (finishes_elsewhere()) return {};
  if (!shape().decodes_beside()) {
    keep_decoding();
    return {};
  }
  DenoisedBlock marker;
  marker.snapshot = true;
  return denoised_.push(marker) ? Status() : cancelled("stopped on request");
}

Status JobRun::keep_sampling(const Denoiser::Moment& moment, SnapshotWriter& to) {
  StateSaver saver(to, *models_.backend);
  return visit_sampling(moment, saver);
}

Status JobRun::visit_sampling(const Denoiser::Moment& moment, StateVisitor& visitor) {
  if (!shape().rank.samples) return {};
  Denoiser& denoiser = session_.denoiser();
  LA_RETURN_IF_ERROR(denoiser.visit_state(moment, session_.blocks(), visitor));
  if (link_ == nullptr) return {};
  return link_->visit_state(denoiser.in_flight(moment), session_.blocks(), visitor);
}

// On the thread that decodes, when the frames of the snapshot are out.
void JobRun::keep_decoding() {
  Snapshots& snapshots = *calls_.snapshots;
  StateSaver saver(snapshots.writer(), session_.decoder().backend());
  if (const Status kept = visit_decoding(saver); !kept.ok()) {
    snapshots.give_up(kept);
    return;
  }
  if (link_ == nullptr) {
    snapshots.finish();
  } else {
    const int64_t id = snapshots.mark().id;
    snapshots.finish(link_->group().size() - 1, [answers = link_->answers(), id] { return answers->wait(id); });
  }
}

}  // namespace liveavatar
