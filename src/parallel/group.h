// Ranks that make one video together: threads of one process with a device each, or processes of several machines. One
// of them, the lead (rank 0), reads the inputs and delivers the frames. docs/many_devices.md says who sends what.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "core/status.h"

namespace liveavatar {

// What a message is about. Messages of one tag from one rank to another arrive in the order in which they were sent;
// those of different tags do not wait for each other.
enum class Tag : uint8_t {
  kJob,        // what is to be made
  kPrompt,     // rows of the text encoder
  kPortrait,   // the portrait's latents
  kReference,  // the sink's latent from the second clip on
  kBlock,      // a block on its way through the steps
  kFinished,   // and after its last step
  kExchange,   // tokens for heads, and back, within a layer
  kWeights,    // which of a layer's weights are asked for
  kPage,       // and these
  kLink,       // how the ranks of a stage are linked
  kReport,     // what a rank used
  kSnapshot,   // whether it kept its part of a snapshot
  kLast = kSnapshot
};
constexpr int kTagCount = static_cast<int>(Tag::kLast) + 1;
const char* tag_name(Tag tag);  // "a block", for messages

// One rank's end. Bytes are host memory. Thread-safe, but for each rank and tag one thread sends and one receives.
//
// Every wait ends: with the message, with the failure of any rank (the same Status on all), or with kIo when a rank has
// shown no sign of life for Options::silence_s, or has not sent what is waited for in Options::wait_s. A failure is
// final: all that follows returns it. It names the rank, its host and device, and what was waited for.
class Group {
 public:
  // Where a rank is.
  struct Place {
    std::string host, device;
  };
  struct Options {
    double silence_s = 5;  // of a process that was stopped or is out of reach; mpirun takes 2 to 4 more
    double wait_s = 3600;  // for one message of a rank that lives
    double end_s = 30;     // after a failure: for the lead to finish its file and end
    double begin_s = 60;   // for the ranks of all machines to begin
    // While ranks begin and end nothing can be returned: prints what ends the process then.
    std::function<void(const Status&)> last_words;
  };

  virtual ~Group() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual Place place(int rank) const = 0;
  virtual const Options& options() const = 0;

  // Begins to send and may return before it is done: `data` must not change until finish_send(), or until the next
  // start_send() of the same rank and tag, which waits for this one. Before data dies finish_send() is called, also
  // after a failure: then nobody reads it any more.
  virtual Status start_send(int to, Tag tag, std::span<const std::byte> data) = 0;
  virtual Status finish_send(int to, Tag tag) = 0;
  // A message of exactly this size.
  virtual Status receive(int from, Tag tag, std::span<std::byte> data) = 0;
  // Whether receive() would find the message there already.
  virtual Expected<bool> arrived(int from, Tag tag) = 0;
  // Whether the receiver has what start_send() began: finish_send() would not wait.
  virtual Expected<bool> taken(int to, Tag tag) = 0;

  // Ends every wait of every rank with this failure, unless there was one before. Any thread.
  virtual void abort(const Status& why) = 0;
  // The failure, if there was one.
  virtual Status status() const = 0;
  // Asked to stop when the group fails, by the thread that notices it.
  virtual std::stop_token failure_token() const = 0;
  // Seconds that this rank waited in the calls above, but for pages of weights: threads of their own wait for those.
  virtual double waited_s() const = 0;

  // The end of a rank, in this order:
  //
  //   if (stopped) status = group.roll_call();     a signal to stop may mean that another rank died
  //   if (group.speaks()) print(status);           on the lead, when its file is finished
  //   return group.end(code);                      last of all
  //
  // The failure, after a moment in which each rank may show that it lives.
  virtual Status roll_call() { return status(); }
  // Whether this rank says how the run ended: the lead; another where the lead died, or did not end for
  // Options::end_s. After a failure the others wait here for that, since the launcher kills all when one process ends.
  virtual bool speaks() { return rank() == 0; }
  // -> the exit code of this process. Without a failure, and with code 0 on all: returns when every rank is here. Else
  // the code is not 0, and with it every process ends, also one that hangs. Where a launcher gives no other way it does
  // not return: streams are flushed and files closed before. No call of the group follows.
  virtual int end(int code) { return code; }

  Status send(int to, Tag tag, std::span<const std::byte> data);
  // A text of any length.
  Status send_text(int to, Tag tag, const std::string& text);
  Expected<std::string> receive_text(int from, Tag tag);
  // From `root` to all others; on the others data is written.
  Status broadcast(int root, Tag tag, std::span<std::byte> data);
  // "rank 2 (node7, cuda:1)"
  virtual std::string name_of(int rank) const;

  // What this rank does, for failures that come while it waits for nobody: "decode", a literal.
  void set_stage(const char* name) { stage_ = name; }

 protected:
  const std::atomic<const char*>& stage() const { return stage_; }

 private:
  std::atomic<const char*> stage_ = nullptr;
};

// Whether a wait for it counts in Group::waited_s().
constexpr bool counts_as_wait(Tag tag) { return tag != Tag::kWeights && tag != Tag::kPage; }
// Behind "rank 1 (node2, cpu) ended".
constexpr const char* kCrashed =
    "; it crashed or was killed, perhaps for want of memory: look at that machine, then run again";
// What a wait of `seconds` that nothing ended becomes; what: "rank 2 (node7, cpu) did not send a block".
Status waited_too_long(const std::string& what, double seconds);

// Some ranks of a group as a group of their own; `members` in ascending order, this rank among them. `whole` outlives
// it. Two groups that share two ranks must not use the same tag.
class SubGroup : public Group {
 public:
  SubGroup(Group& whole, std::vector<int> members);
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  Place place(int rank) const override { return whole_.place(member(rank)); }
  const Options& options() const override { return whole_.options(); }
  Status start_send(int to, Tag tag, std::span<const std::byte> data) override {
    return whole_.start_send(member(to), tag, data);
  }
  Status finish_send(int to, Tag tag) override { return whole_.finish_send(member(to), tag); }
  Status receive(int from, Tag tag, std::span<std::byte> data) override {
    return whole_.receive(member(from), tag, data);
  }
  Expected<bool> arrived(int from, Tag tag) override { return whole_.arrived(member(from), tag); }
  Expected<bool> taken(int to, Tag tag) override { return whole_.taken(member(to), tag); }
  void abort(const Status& why) override { whole_.abort(why); }
  std::stop_token failure_token() const override { return whole_.failure_token(); }
  Status status() const override { return whole_.status(); }
  double waited_s() const override { return whole_.waited_s(); }
  std::string name_of(int rank) const override { return whole_.name_of(member(rank)); }

 private:
  int member(int rank) const { return members_.at(static_cast<size_t>(rank)); }

  Group& whole_;
  std::vector<int> members_;
  int rank_ = 0;
};

}  // namespace liveavatar
