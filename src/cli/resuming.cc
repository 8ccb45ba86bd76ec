#include "cli/resuming.h"

#include <cstdio>
#include <filesystem>

#include "cli/commands.h"
#include "core/size_text.h"
#include "media/plain_mp4.h"
#include "media/video_writer.h"
#include "pipeline/job_identity.h"
#include "session/snapshot_size.h"

namespace liveavatar::cli {
namespace {

double seconds_of(int64_t frames) { return double(frames) / double(kFps); }

void say_snapshots(const SnapshotOptions& options, const JobShape& shape) {
  std::fprintf(stderr, "note: snapshots of %s each go to %s, of which %d are kept\n",
               mib(snapshot_bytes(shape)).c_str(), one_line(options.folder).c_str(), options.keep);
}

}  // namespace

Expected<std::unique_ptr<Resuming>> Resuming::open(const ResumeFlags& flags, const Checkpoint& checkpoint,
                                                   const ResolvedJob& job, OutputClaim& claim, bool quiet) {
  if (!job.shape.online_decode)
    return unsupported("--resume: without online decode the video is made at the end; leave out --no_online_decode");
  std::unique_ptr<Resuming> resuming(new Resuming(claim));
  SnapshotOptions options = snapshot_options(flags, claim.path());
  options.one_host = flags.one_process;
  LA_ASSIGN_OR_RETURN(const JobIdentity identity, identity_of(checkpoint, job));
  resuming->mark_ = mark_of(identity);
  std::error_code ignored;
  const bool has_folder = std::filesystem::is_directory(options.folder, ignored);
  std::vector<std::string> notes;
  LA_ASSIGN_OR_RETURN(resuming->point_, find_resume_point(options.folder, identity, notes));
  for (const std::string& note : notes) std::fprintf(stderr, "note: %s\n", one_line(note).c_str());
  if (!resuming->point_) LA_RETURN_IF_ERROR(resuming->check_video(job.info, has_folder));
  if (!quiet && !resuming->whole_) say_snapshots(options, job.shape);
  if (resuming->point_ && !quiet)
    std::fprintf(stderr, "goes on behind %.1f of %.1f s, from %s\n", seconds_of(resuming->point_->frames),
                 seconds_of(job.info.frames), one_line(resuming->point_->state->path()).c_str());
  Snapshots::Calls calls;
  calls.file = [self = resuming.get()](int64_t frames) { return self->position(frames); };
  calls.say = [](const std::string& note) { std::fprintf(stderr, "note: %s\n", one_line(note).c_str()); };
  LA_ASSIGN_OR_RETURN(resuming->snapshots_,
                      Snapshots::open(options, identity, resuming->frames_before(), std::move(calls)));
  return resuming;
}

// A file that is there without a snapshot. The folder of snapshots is there as long as the job is not done.
Status Resuming::check_video(const JobInfo& info, bool has_folder) {
  whole_ = whole_with_mark(claim_.path(), mark_, info.frames);
  const bool is_ours = whole_ || has_folder || claim_.bytes() == 0 || is_unfinished_mp4(claim_.descriptor());
  if (is_ours) return {};
  return invalid_argument("--resume: " + claim_.path() +
                          " is there and is no video of this job; move it away, or leave out --resume to replace it");
}

Expected<std::unique_ptr<ThreadedFile>> Resuming::create(const JobInfo& info, const GenerateRequest& request) {
  return create_resumable_video(claim_, info, request, {mark_, point_ ? &point_->file : nullptr});
}

void Resuming::set_file(ThreadedFile* file) {
  std::lock_guard lock(mutex_);
  file_ = file;
}

void Resuming::set_stalled(bool is_stalled) {
  std::lock_guard lock(mutex_);
  if (file_ != nullptr) file_->set_stalled(is_stalled);
}

// Frames of a snapshot were handed to the file, which is there since the first of them.
Expected<FilePosition> Resuming::position(int64_t frames) {
  std::unique_lock lock(mutex_);
  LA_CHECK(file_ != nullptr);
  ThreadedFile& file = *file_;
  lock.unlock();
  return file.position(frames);
}

void Resuming::add_to(RunCalls& calls) {
  calls.snapshots = snapshots_.get();
  calls.resume = point_ ? &*point_ : nullptr;
}

void Resuming::wait() { snapshots_->end(); }

void Resuming::print() const {
  const long long count = snapshots_->count();
  if (count > 0)
    std::fprintf(stderr, "snapshots: %lld, for which the run waited %.2f s\n", count, snapshots_->seconds());
}

void Resuming::done() { snapshots_->remove(); }

}  // namespace liveavatar::cli
