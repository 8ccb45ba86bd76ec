#include "parallel/sibling_watch.h"

#include <dirent.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "parallel/host_name.h"

namespace liveavatar {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPeriod{50};
// From the last words to the end: all others have seen the same by then, and leave the word to this one.
constexpr milliseconds kToBeHeard{300}, kForTheSpeaker{3000};
// This process did not run.
constexpr milliseconds kGap{1000};
constexpr double kLauncher_s = 4;  // from one rank's end to that of all
constexpr int kNoRank = -1;
// Of threads: how siblings know each other's state. 15 characters at most.
constexpr char kWatches[] = "la-siblings", kExplains[] = "la-explains", kLeaves[] = "la-leaves";

int number_in(std::string_view text) {
  int number = kNoRank;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::string proc(pid_t pid, const std::string& what) { return "/proc/" + std::to_string(pid) + "/" + what; }

// A file of a process, as far as it can be read: a process may end between open and read, where a stream buffer throws.
std::string content(const std::string& path) {
  std::string text;
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (file == nullptr) return text;
  char part[4096];
  for (size_t got = 1; got > 0;) {
    got = std::fread(part, 1, sizeof(part), file.get());
    text.append(part, got);
  }
  return text;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(folder.c_str()), closedir);
  if (entries == nullptr) return names;
  while (const dirent* entry = readdir(entries.get()))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  return names;
}

// The rank that a launcher gave the process with this environment; kNoRank: none.
int rank_in(const std::string& environment) {
  for (const std::string_view name : {"OMPI_COMM_WORLD_RANK=", "PMIX_RANK="}) {
    for (size_t at = 0; at < environment.size();) {
      const std::string_view entry(environment.c_str() + at);
      if (entry.starts_with(name)) return number_in(entry.substr(name.size()));
      at += entry.size() + 1;
    }
  }
  return kNoRank;
}

int own_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"})
    if (const char* value = std::getenv(name)) return number_in(value);
  return 0;
}

// 'R' runs, 'T' is stopped, 'Z' has ended; 0: it is not there.
char state_of(pid_t pid) {
  const std::string stat = content(proc(pid, "stat"));
  const size_t name_end = stat.rfind(") ");
  return name_end == std::string::npos ? '\0' : stat[name_end + 2];
}

bool is_gone(char state) { return state == '\0' || state == 'Z' || state == 'X'; }

bool has_thread(pid_t pid, const char* name) {
  for (const std::string& thread : names_in(proc(pid, "task")))
    if (content(proc(pid, "task/" + thread + "/comm")).starts_with(name)) return true;
  return false;
}

}  // namespace

void announce_own_error() { pthread_setname_np(pthread_self(), kExplains); }

SiblingWatch::SiblingWatch(Phase phase, const Group::Options& options, const Known& known)
    : phase_(phase),
      options_(options),
      rank_(own_rank()),
      launcher_(getppid()),
      launcher_ends_all_(known.launcher_ends_all) {
  for (const auto& [rank, pid] : known.ranks) siblings_[rank] = Sibling{.pid = pid, .running = began_};
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), kWatches);
}

void SiblingWatch::leave_together() {
  constexpr milliseconds kPause{2};
  pthread_setname_np(pthread_self(), kLeaves);
  std::vector<pid_t> others;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [rank, sibling] : siblings_) others.push_back(sibling.pid);
  }
  for (const pid_t pid : others)
    while (!is_gone(state_of(pid)) && !has_thread(pid, kLeaves)) std::this_thread::sleep_for(kPause);
}

SiblingWatch::~SiblingWatch() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void SiblingWatch::run() {
  Clock::time_point before = began_;
  std::unique_lock lock(mutex_);
  for (bool over = over_; !over; over = changed_.wait_for(lock, kPeriod, [&] { return over_; })) {
    const Clock::time_point now = Clock::now();
    was_stopped_ = was_stopped_ || now - before > kGap;
    if (getppid() == launcher_) find();
    look(now - before);
    was_stopped_ = was_stopped_ || Clock::now() - now > kGap;
    before = now;
    const Status why = lost();
    if (why.ok()) continue;
    lock.unlock();
    end(why);
  }
}

// Those that the launcher has started so far.
void SiblingWatch::find() {
  for (const std::string& thread : names_in(proc(launcher_, "task"))) {
    std::istringstream children(content(proc(launcher_, "task/" + thread + "/children")));
    for (pid_t pid = 0; children >> pid;) {
      const int rank = pid == getpid() ? kNoRank : rank_in(content(proc(pid, "environ")));
      if (rank != kNoRank) siblings_.try_emplace(rank, Sibling{.pid = pid, .running = Clock::now()});
    }
  }
}

void SiblingWatch::look(Clock::duration gap) {
  for (auto& [rank, sibling] : siblings_) {
    if (sibling.gone) continue;
    const char state = state_of(sibling.pid);
    sibling.gone = is_gone(state);
    sibling.stopped = state == 'T' || state == 't';
    if (!sibling.stopped && !sibling.gone) sibling.running = Clock::now();
    if (sibling.stopped && gap > kGap) sibling.running += gap;
    sibling.watches = sibling.watches || has_thread(sibling.pid, kWatches);
    sibling.explains = sibling.explains || has_thread(sibling.pid, kExplains);
  }
}

// Who is lost, if anybody is.
Status SiblingWatch::lost() const {
  const std::string when = phase_ == Phase::kBegin ? " while MPI began" : " while MPI ended";
  const bool ends_all = launcher_ends_all_ && launcher_ends_all_();
  for (const auto& [rank, sibling] : siblings_) {
    const std::string name = "rank " + std::to_string(rank) + " (" + host_name() + ")";
    const bool crashed = phase_ == Phase::kBegin ? !sibling.explains : ends_all;
    if (sibling.gone && crashed && !was_stopped_) return io_error(name + " ended" + when + kCrashed);
    if (sibling.stopped && seconds_since(sibling.running) > options_.silence_s)
      return io_error(name + " was stopped" + when + "; look at what stopped it (SIGSTOP), then run again");
  }
  const double longest_s = phase_ == Phase::kBegin ? options_.begin_s : options_.silence_s;
  const double in_turn_s = kLauncher_s * std::min(rank_, 2);
  if (ends_all || was_stopped_ || seconds_since(began_) < longest_s + in_turn_s) return {};
  return io_error("a rank on another machine was lost" + when +
                  "; look at the processes and at the network between the machines, then run again");
}

// The first that is left. The lost one is stopped, or gone. While MPI begins, one that is not here yet is not counted;
// while it ends, such a one learns of the loss by its group.
bool SiblingWatch::speaks() const {
  for (const auto& [rank, sibling] : siblings_) {
    const bool learns = sibling.watches || phase_ == Phase::kEnd;
    if (rank < rank_ && !sibling.stopped && !sibling.gone && learns) return false;
  }
  return true;
}

void SiblingWatch::end(const Status& why) {
  const bool speaker = speaks();
  if (speaker && options_.last_words) options_.last_words(why);
  if (!speaker) std::this_thread::sleep_for(kForTheSpeaker);
  std::this_thread::sleep_for(kToBeHeard);
  ::_exit(1);
}

}  // namespace liveavatar
