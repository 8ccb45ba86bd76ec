#include "pipeline/snapshots.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <random>

#include "core/boundary.h"
#include "core/errno_text.h"
#include "core/folder.h"
#include "core/json.h"
#include "liveavatar/liveavatar.h"
#include "pipeline/rank_snapshots.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kEnding = ".snapshot";

// In the order of the blocks.
std::string file_name(int64_t block) {
  char name[40];
  std::snprintf(name, sizeof(name), "block-%09lld%s", static_cast<long long>(block), kEnding);
  return name;
}

// Oldest first.
std::vector<fs::path> snapshots_in(const std::string& folder) {
  std::vector<fs::path> snapshots = folder_entries(folder);
  std::erase_if(snapshots, [](const fs::path& file) { return !is_snapshot(file.string()); });
  return snapshots;
}

// Of a run that came further, and could not be gone on with.
void remove_later(const std::string& folder, const std::string& name) {
  std::error_code ignored;
  for (const fs::path& file : snapshots_in(folder))
    if (file.filename().string() > name) fs::remove(file, ignored);
}

// Of the snapshots that are there; none: the next one's.
int64_t oldest_block(const std::string& folder, int64_t next) {
  const std::vector<fs::path> snapshots = snapshots_in(folder);
  if (snapshots.empty()) return next;
  long long block = next;
  const std::string name = snapshots.front().filename().string();
  return std::sscanf(name.c_str(), "block-%9lld", &block) == 1 ? std::min<int64_t>(block, next) : 0;
}

std::string job_text(const JobIdentity& job, const Denoiser::Moment& moment, int64_t frames) {
  Json json;
  json["program"] = version();
  json["frames"] = frames;
  json["range_first"] = moment.blocks.first;
  json["range_count"] = moment.blocks.count;
  json["begun"] = moment.begun;
  json["job"] = job;
  return json_text(json);
}

std::string file_text(const FilePosition& file) {
  Json json;
  json["frames"] = file.frames;
  json["bytes"] = file.bytes;
  json["fragments"] = file.fragments;
  json["encoder"] = file.encoder;
  json["encoder_threads"] = file.encoder_threads;
  return json_text(json);
}

std::string ranks_text(int ranks, int64_t id, bool one_host) {
  return json_text(Json{{"count", ranks}, {"id", id}, {"one_host", one_host}});
}

constexpr int64_t kMost = int64_t{1} << 50;

Expected<FilePosition> read_file_position(const SnapshotReader& state) {
  LA_ASSIGN_OR_RETURN(const std::string text, state.text("file"));
  LA_ASSIGN_OR_RETURN(const nlohmann::json json, parse_json(text, state.path()));
  FilePosition file;
  JsonReader reader(json, state.path());
  file.frames = reader.number("frames", 0, kMost);
  file.bytes = reader.number("bytes", 0, kMost);
  file.fragments = reader.number("fragments", 0, INT32_MAX - 1);
  file.encoder = reader.text("encoder", "");
  file.encoder_threads = static_cast<int>(reader.number("encoder_threads", 0, 1024));
  LA_RETURN_IF_ERROR(reader.status());
  LA_ASSIGN_OR_RETURN(file.head, state.text("file.head"));
  return file;
}

// What a snapshot says of itself.
struct Said {
  ResumePoint point;
  int ranks = 0;  // that have files of their own
  bool one_host = true;
  JobIdentity job;
  std::string program;
};

Status read_ranks(Said& said) {
  const SnapshotReader& state = *said.point.state;
  const Expected<std::string> text = state.text("ranks");
  if (!text.ok()) return {};  // made before there were any
  LA_ASSIGN_OR_RETURN(const nlohmann::json json, parse_json(*text, state.path()));
  JsonReader reader(json, state.path());
  said.ranks = static_cast<int>(reader.number("count", 0, kMostRanks));
  const int64_t id = reader.number("id", 0, kMost);
  said.one_host = reader.flag("one_host", true);
  const Denoiser::Moment& moment = said.point.moment;
  if (said.ranks > 0) said.point.ranks = {moment.blocks.first + moment.begun, id};
  return reader.status();
}

// The parts of ranks on this machine. Ranks of other machines look at theirs themselves.
Status check_ranks(const std::string& folder, const Said& said) {
  if (!said.one_host) return {};
  for (int rank = 1; rank <= said.ranks; ++rank)
    LA_RETURN_IF_ERROR(open_rank_snapshot(folder, said.point.ranks, rank).status());
  return {};
}

Expected<Said> read_snapshot(const std::string& path) {
  Said said;
  LA_ASSIGN_OR_RETURN(said.point.state, SnapshotReader::open(path));
  LA_ASSIGN_OR_RETURN(const std::string text, said.point.state->text("job"));
  LA_ASSIGN_OR_RETURN(const nlohmann::json json, parse_json(text, path));
  JsonReader reader(json, path);
  said.program = reader.text("program", "");
  said.point.frames = reader.number("frames", 0, kMost);
  Denoiser::Moment& moment = said.point.moment;
  moment.blocks.first = reader.number("range_first", 0, kMost);
  moment.blocks.count = reader.number("range_count", 1, kMost);
  moment.begun = reader.number("begun", 0, moment.blocks.count);
  LA_RETURN_IF_ERROR(reader.status());
  const nlohmann::json& job = reader.at("job");
  if (!job.is_object()) return corrupt(path + ": has no job; it cannot be used, remove it");
  for (const auto& [name, value] : job.items()) said.job[name] = value.is_string() ? value.get<std::string>() : "";
  LA_ASSIGN_OR_RETURN(said.point.file, read_file_position(*said.point.state));
  LA_RETURN_IF_ERROR(read_ranks(said));
  return said;
}

// The first that differs.
Status check_same(const std::string& path, const JobIdentity& had, JobIdentity has) {
  for (const auto& [name, value] : had) has.try_emplace(name);  // what this job does not have is "" in it
  for (const auto& [name, value] : has) {
    const auto found = had.find(name);
    const std::string before = found == had.end() ? "" : found->second;
    if (before == value) continue;
    return invalid_argument(path + ": is of another job, whose " + name + " is \"" + before + "\", not \"" + value +
                            "\"; go on with the same, or remove the snapshots to begin anew");
  }
  return {};
}

}  // namespace

Expected<std::optional<ResumePoint>> find_resume_point(const std::string& folder, const JobIdentity& job,
                                                       std::vector<std::string>& notes) {
  std::vector<fs::path> snapshots = snapshots_in(folder);
  std::reverse(snapshots.begin(), snapshots.end());
  for (const fs::path& path : snapshots) {
    auto said = read_snapshot(path.string());
    if (said.status().code() == ErrorCode::kUnsupported) return said.status();
    if (!said.ok()) {
      notes.push_back(said.status().message());
      continue;
    }
    LA_RETURN_IF_ERROR(check_same(path.string(), said->job, job));
    if (const Status whole = check_ranks(folder, *said); !whole.ok()) {
      notes.push_back(whole.message());
      continue;
    }
    return std::optional<ResumePoint>(std::move(said->point));
  }
  return std::optional<ResumePoint>();
}

bool is_snapshot(const std::string& path) { return fs::path(path).extension() == kEnding; }

Expected<std::vector<std::string>> describe_snapshot(const std::string& path) {
  LA_ASSIGN_OR_RETURN(const Said said, read_snapshot(path));
  std::vector<std::string> lines;
  const int64_t block = said.point.moment.blocks.first + said.point.moment.begun;
  lines.push_back("snapshot of a job: " + std::to_string(said.point.frames) + " frames are done, block " +
                  std::to_string(block) + " is next");
  lines.push_back("made by version " + said.program + "; " + std::to_string(said.point.state->bytes()) +
                  " bytes, every checksum is right");
  if (said.ranks > 0) lines.push_back("with it go the files of " + std::to_string(said.ranks) + " other devices");
  for (const auto& [name, value] : said.job) lines.push_back(name + ": " + value);
  return lines;
}

Expected<std::unique_ptr<Snapshots>> Snapshots::open(const SnapshotOptions& options, const JobIdentity& job,
                                                     int64_t frames, Calls calls) {
  std::error_code error;
  fs::create_directories(options.folder, error);
  if (error) return io_error(options.folder + ": the folder cannot be made (" + error.message() + "); choose another");
  const fs::path outer = folder_of(fs::path(options.folder).lexically_normal());
  if (!sync_folder(outer)) return io_error(outer.string() + ": " + errno_text(errno, "choose another place"));
  remove_abandoned(options.folder);
  std::unique_ptr<Snapshots> snapshots(new Snapshots(options, job, std::move(calls)));
  snapshots->folder_ = OpenFolder(options.folder);
  snapshots->last_frames_ = frames;
  return snapshots;
}

Snapshots::~Snapshots() { end(); }

bool Snapshots::due(int64_t frames) const {
  if (frames <= last_frames_ || frames % kSegmentFrames != 0) return false;
  if (options_.every_blocks > 0) return frames - last_frames_ >= options_.every_blocks * kBlockFrames;
  if (busy_) return false;
  const auto since = [now = Clock::now()](Clock::time_point moment) {
    return std::chrono::duration<double>(now - moment).count();
  };
  constexpr double kFirst_s = 5;  // early on a kill costs half of what was made at most
  const double every_s = std::min(options_.every_s, std::max(kFirst_s, since(opened_) / 2));
  return since(last_) >= std::max(every_s, wait_s_);
}

SnapshotWriter* Snapshots::begin(const Denoiser::Moment& moment, int64_t frames) {
  began_ = last_ = Clock::now();
  wait();
  moment_ = moment;
  if (cancelled_) return nullptr;
  oldest_ = oldest_block(folder_.path(), moment.blocks.first + moment.begun);
  id_ = 1 + static_cast<int64_t>(random_());
  frames_ = last_frames_ = frames;
  auto writer = contained("snapshots", [&] {
    return SnapshotWriter::create(folder_.path() + "/" + file_name(moment.blocks.first + moment.begun));
  });
  if (!writer.ok()) {
    give_up(writer.status());
    return nullptr;
  }
  busy_ = true;
  writer_ = *std::move(writer);
  return writer_.get();
}

void Snapshots::give_up(const Status& why) {
  writer_.reset();
  set_idle();
  if (!failing_.exchange(true) && calls_.say) calls_.say("no snapshot was written: " + why.message());
}

RankSnapshotJob Snapshots::rank_job(const ResumePoint* resume) const {
  std::error_code error;  // ranks of mpirun may begin in other folders
  const std::string folder = fs::absolute(options_.folder, error).string();
  return {error ? options_.folder : folder, resume == nullptr ? SnapshotMark() : resume->ranks};
}

void Snapshots::finish(int ranks, std::function<Status()> others) {
  seconds_ += std::chrono::duration<double>(Clock::now() - began_).count();
  const Status started = contained("snapshots", [&]() -> Status {
    std::lock_guard lock(mutex_);
    committing_ = std::thread([this, ranks, others = std::move(others)] {
      const Status done = contained("snapshots", [&] { return commit(ranks, others); });
      if (!done.ok()) give_up(done);
    });
    return {};
  });
  if (!started.ok()) give_up(started);
}

// The video's file first: what a snapshot says of it is on the disk.
Status Snapshots::commit(int ranks, const std::function<Status()>& others) {
  LA_ASSIGN_OR_RETURN(const FilePosition file, calls_.file(frames_));
  if (others) LA_RETURN_IF_ERROR(others());
  LA_RETURN_IF_ERROR(writer_->add("ranks", ranks_text(ranks, id_, options_.one_host)));
  LA_RETURN_IF_ERROR(writer_->add("file", file_text(file)));
  LA_RETURN_IF_ERROR(writer_->add("file.head", file.head));
  LA_RETURN_IF_ERROR(writer_->add("job", job_text(job_, moment_, frames_)));
  LA_RETURN_IF_ERROR(writer_->commit());
  writer_.reset();
  remove_later(folder_.path(), file_name(moment_.blocks.first + moment_.begun));
  prune(static_cast<size_t>(std::max(options_.keep, 1)));
  wait_s_ = std::chrono::duration<double>(Clock::now() - began_).count() / kMostShare;
  ++count_;
  failing_ = false;
  set_idle();
  return {};
}

void Snapshots::prune(size_t keep) const {
  const std::vector<fs::path> snapshots = snapshots_in(folder_.path());
  std::error_code ignored;
  const size_t removed = snapshots.size() - std::min(keep, snapshots.size());
  for (size_t i = 0; i < removed; ++i) fs::remove(snapshots[i], ignored);
  prune_ranks({snapshots.begin() + static_cast<std::ptrdiff_t>(removed), snapshots.end()});
}

// Other ranks' files that no snapshot needs. One that is being made has a later block than all.
void Snapshots::prune_ranks(const std::vector<fs::path>& kept) const {
  std::error_code ignored;
  for (const fs::path& file : folder_entries(folder_.path())) {
    const int64_t block = block_of_rank_snapshot(file.string());
    if (block < 0) continue;
    const std::string name = file_name(block);
    const bool newer = !kept.empty() && kept.back().filename().string() < name;
    const bool needed = std::any_of(kept.begin(), kept.end(), [&](const fs::path& k) { return k.filename() == name; });
    if (!newer && !needed) fs::remove(file, ignored);
  }
}

void Snapshots::set_idle() {
  busy_ = false;
  busy_.notify_all();
}

void Snapshots::wait() {
  busy_.wait(true);
  std::lock_guard lock(mutex_);
  if (committing_.joinable()) committing_.join();
}

void Snapshots::cancel() {
  cancelled_ = true;
  set_idle();
}

void Snapshots::end() {
  {
    std::lock_guard lock(mutex_);
    if (committing_.joinable()) committing_.join();
  }
  writer_.reset();
}

void Snapshots::remove() {
  prune(0);
  std::error_code ignored;
  fs::remove(folder_.path(), ignored);  // if it is empty
}

}  // namespace liveavatar
