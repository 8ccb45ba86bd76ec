// Snapshots of a run: what is kept, on which thread, and how it comes back.
#include "pipeline/job_run.h"

namespace liveavatar {

Status JobRun::restore(const ResumePoint& from) {
  Backend& backend = *models_.backend;
  FrameDecoder& decoder = session_.decoder();
  StateRestorer sampling(*from.state, backend), decoding(*from.state, decoder.backend());
  LA_RETURN_IF_ERROR(sampling.visit("reference", session_.blocks().reference.tensor));
  LA_RETURN_IF_ERROR(session_.denoiser().visit_state(from.moment, session_.blocks(), sampling));
  LA_RETURN_IF_ERROR(decoder.visit_state(decoding));
  LA_RETURN_IF_ERROR(backend.synchronize());
  LA_RETURN_IF_ERROR(decoder.backend().synchronize());
  output_.go_on(from.frames);
  PoseEncoder* pose = session_.pose();
  const int64_t block = from.moment.blocks.first + from.moment.begun;
  return pose == nullptr ? Status() : pose->skip(block, session_.blocks().start(block).pose);
}

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
  const int64_t frames = (blocks.first + session_.denoiser().sent(begun)) * kBlockFrames;
  if (!snapshots.due(frames)) return {};
  SnapshotWriter* const to = snapshots.begin(moment, frames);
  if (to == nullptr) return {};
  if (const Status kept = keep_sampling(moment, *to); !kept.ok()) {
    snapshots.give_up(kept);
    return {};
  }
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
  LA_RETURN_IF_ERROR(saver.visit("reference", session_.blocks().reference.tensor));
  return session_.denoiser().visit_state(moment, session_.blocks(), saver);
}

// On the thread that decodes, when the frames of the snapshot are out.
void JobRun::keep_decoding() {
  Snapshots& snapshots = *calls_.snapshots;
  StateSaver saver(snapshots.writer(), session_.decoder().backend());
  const Status kept = session_.decoder().visit_state(saver);
  if (kept.ok()) {
    snapshots.finish();
  } else {
    snapshots.give_up(kept);
  }
}

}  // namespace liveavatar
