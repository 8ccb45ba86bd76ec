#include "pipeline/rank_snapshots.h"

#include <cstdio>
#include <filesystem>
#include <utility>
#include <vector>

#include "core/boundary.h"
#include "core/folder.h"
#include "core/json.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMost = int64_t{1} << 50;

std::string job_text(const SnapshotMark& mark, const Denoiser::Moment& moment) {
  return json_text(nlohmann::json{{"id", mark.id},
                                  {"range_first", moment.blocks.first},
                                  {"range_count", moment.blocks.count},
                                  {"begun", moment.begun}});
}

}  // namespace

std::string rank_snapshot_path(const std::string& folder, int64_t block, int rank) {
  char name[48];
  std::snprintf(name, sizeof(name), "block-%09lld.rank-%d", static_cast<long long>(block), rank);
  return folder + "/" + name;
}

int64_t block_of_rank_snapshot(const std::string& path) {
  long long block = -1;
  int rank = 0, end = 0;
  const std::string name = fs::path(path).filename().string();
  const int found = std::sscanf(name.c_str(), "block-%9lld.rank-%2d%n", &block, &rank, &end);
  return found == 2 && static_cast<size_t>(end) == name.size() ? block : -1;
}

Expected<RankSnapshot> open_rank_snapshot(const std::string& folder, const SnapshotMark& mark, int rank) {
  RankSnapshot snapshot;
  LA_ASSIGN_OR_RETURN(snapshot.state, SnapshotReader::open(rank_snapshot_path(folder, mark.block, rank)));
  const std::string& path = snapshot.state->path();
  LA_ASSIGN_OR_RETURN(const std::string text, snapshot.state->text("job"));
  LA_ASSIGN_OR_RETURN(const nlohmann::json json, parse_json(text, path));
  JsonReader reader(json, path);
  const int64_t id = reader.number("id", 1, kMost);
  snapshot.moment.blocks.first = reader.number("range_first", 0, kMost);
  snapshot.moment.blocks.count = reader.number("range_count", 1, kMost);
  snapshot.moment.begun = reader.number("begun", 0, snapshot.moment.blocks.count);
  LA_RETURN_IF_ERROR(reader.status());
  if (id != mark.id) return corrupt(path + ": is of another snapshot than rank 0's; remove those of this block");
  return snapshot;
}

void RankSnapshots::keep(const SnapshotMark& mark, const Denoiser::Moment& moment, const Save& save) {
  end();
  auto writer = contained("snapshots", [&] { return write(mark, moment, save); });
  if (!writer.ok()) {
    answer_beside(mark, [why = writer.status()] { return why; });
    return;
  }
  answer_beside(mark, [this, mark, file = std::shared_ptr<SnapshotWriter>(*std::move(writer))] {
    LA_RETURN_IF_ERROR(file->commit());
    prune(mark);
    return Status();
  });
}

void RankSnapshots::refuse(const SnapshotMark& mark) {
  end();
  answer_beside(mark, [] { return cancelled("the video ended"); });
}

Expected<std::unique_ptr<SnapshotWriter>> RankSnapshots::write(const SnapshotMark& mark, const Denoiser::Moment& moment,
                                                               const Save& save) const {
  std::error_code ignored;  // a folder that is not there is said with the file
  fs::create_directories(job_.folder, ignored);
  LA_ASSIGN_OR_RETURN(std::unique_ptr<SnapshotWriter> writer,
                      SnapshotWriter::create(rank_snapshot_path(job_.folder, mark.block, group_.rank())));
  LA_RETURN_IF_ERROR(writer->add("job", job_text(mark, moment)));
  LA_RETURN_IF_ERROR(save(*writer));
  return writer;
}

// Bringing a file to the disk takes time, and the lead may take its time for an answer.
void RankSnapshots::answer_beside(const SnapshotMark& mark, std::function<Status()> finish) {
  finishing_ = std::thread([this, mark, finish = std::move(finish)] {
    const Status sent = contained("snapshots", [&] {
      const Status kept = contained("snapshots", finish);
      const nlohmann::json answer{{"id", mark.id}, {"failure", kept.message()}};
      return group_.send_text(0, Tag::kSnapshot, json_text(answer));
    });
    if (!sent.ok()) group_.abort(sent);
  });
}

// What the lead may still need stays, also where others could not keep theirs. Later ones are of a run before this one.
void RankSnapshots::prune(const SnapshotMark& mark) const {
  const std::string ending = ".rank-" + std::to_string(group_.rank());
  std::error_code ignored;
  for (const fs::path& file : folder_entries(job_.folder)) {
    const int64_t block = block_of_rank_snapshot(file.string());
    const bool own = block >= 0 && file.extension() == ending;
    if (own && (block < mark.oldest || block > mark.block)) fs::remove(file, ignored);
  }
}

void RankSnapshots::end() {
  if (finishing_.joinable()) finishing_.join();
}

void SnapshotAnswers::expect(int64_t id) {
  std::lock_guard lock(mutex_);
  expected_.push_back(id);
  if (!taking_.joinable()) taking_ = std::thread([this] { take_all(); });
  changed_.notify_all();
}

Status SnapshotAnswers::wait(int64_t id) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return answers_.contains(id); });
  return answers_.extract(id).mapped();
}

void SnapshotAnswers::end() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  if (taking_.joinable()) taking_.join();
}

void SnapshotAnswers::take_all() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || !expected_.empty(); });
    if (expected_.empty()) return;
    const int64_t id = expected_.front();
    expected_.pop_front();
    lock.unlock();
    Status answer = contained("snapshots", [&] { return take(id); });
    lock.lock();
    answers_[id] = std::move(answer);
    changed_.notify_all();
  }
}

Status SnapshotAnswers::take(int64_t id) {
  Status first;
  for (int rank = 1; rank < group_.size(); ++rank) {
    LA_ASSIGN_OR_RETURN(const std::string text, group_.receive_text(rank, Tag::kSnapshot));
    const std::string where = "the answer of " + group_.name_of(rank);
    LA_ASSIGN_OR_RETURN(const nlohmann::json json, parse_json(text, where));
    JsonReader reader(json, where);
    const bool same = reader.number("id", 1, kMost) == id;
    const std::string failure = reader.text("failure", "");
    LA_RETURN_IF_ERROR(reader.status());
    LA_CHECK(same);
    if (!failure.empty() && first.ok()) first = io_error(group_.name_of(rank) + ": " + failure);
  }
  return first;
}

}  // namespace liveavatar
