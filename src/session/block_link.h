// Blocks on their way from rank to rank. A block travels with its conditioning: one message of a header, features,
// latents, and a pose or masks where the video has them.
#pragma once

#include <optional>
#include <vector>

#include "parallel/group.h"
#include "session/denoiser.h"
#include "session/memory.h"

namespace liveavatar {

// Travels with a block, or with the end of all: the ranks that take it keep their part of a snapshot before they begin
// the block (docs/resume.md). A rank sends it on with the next block that it sends.
struct SnapshotMark {
  int64_t block = 0;   // that the lead begins next, which names the files
  int64_t id = 0;      // 0: no snapshot
  int64_t oldest = 0;  // of the lead's snapshots that are still needed, by its block
};

// Sends blocks to the ranks that have their next steps. One block waits until they took it, the others of this rank are
// in flight. Not thread-safe.
class BlockSender {
 public:
  // Everything outlives this object.
  BlockSender(Group& group, std::vector<int> to, Backend& backend, std::vector<Buffer>& outboxes)
      : group_(group), to_(std::move(to)), backend_(backend), outboxes_(outboxes) {}
  ~BlockSender();
  BlockSender(const BlockSender&) = delete;
  BlockSender& operator=(const BlockSender&) = delete;

  // The rank for which send() of the next block would wait, since it has not taken the one before; none: it would not.
  Expected<std::optional<int>> awaited() const;
  // Keeps the block's conditioning, which its owner may overwrite.
  Status begin(int64_t block, const BlockStart& start);
  // Begins to send it with these latents.
  Status send(int64_t block, const Tensor& latents);
  // No block follows.
  Status end(int64_t block);
  // What it keeps of blocks [first, first + count), which have begun and were not sent.
  Status visit_state(const BlockRange& blocks, const BlockMemory& memory, StateVisitor& visitor);
  // Of the next message.
  void mark(const SnapshotMark& mark) { mark_ = mark; }

 private:
  Buffer& outbox(int64_t block) { return outboxes_[static_cast<size_t>(block) % outboxes_.size()]; }
  Status start_sends(int64_t block, bool more);
  Status finish_sends();

  Group& group_;
  std::vector<int> to_;
  Backend& backend_;
  std::vector<Buffer>& outboxes_;
  size_t latents_at_ = 0;
  SnapshotMark mark_;
};

// Receives blocks into a video's places. Not thread-safe.
class BlockReceiver {
 public:
  BlockReceiver(Group& group, int from, Backend& backend, const BlockMemory& blocks, Buffer& inbox)
      : group_(group), from_(from), backend_(backend), blocks_(blocks), inbox_(inbox) {}
  // Waits for the next message, which stays until receive() takes it. -> its mark
  Expected<SnapshotMark> next();
  // After next(): whether it is a block.
  bool more() const { return header().more != 0; }
  // Nothing: the video ends before this block.
  Expected<std::optional<BlockStart>> receive(int64_t block);

 private:
  // At the head of a message.
  struct Header {
    int64_t block = 0, more = 0;  // more: 0: the video ends before this block
    SnapshotMark mark;
  };
  friend class BlockSender;
  Header header() const;

  Group& group_;
  int from_;
  Backend& backend_;
  const BlockMemory& blocks_;
  Buffer& inbox_;
  bool has_next_ = false;
};

// Of the last steps to the lead: latents alone. tensor: in the backend's memory; host: its size.
Status start_finished(Group& group, Backend& backend, const Tensor& latents, Buffer& host);
Status receive_finished(Group& group, int from, Backend& backend, const Tensor& latents, Buffer& host);

// A tensor of any size to all of `to`, or from one rank. The sender's is done when it returns.
Status send_tensor(Group& group, const std::vector<int>& to, Tag tag, const Download& values);
Status receive_tensor(Group& group, int from, Tag tag, Backend& backend, const Tensor& tensor);

}  // namespace liveavatar
