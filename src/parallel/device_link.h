// Messages between the memories of devices, in order with a backend's work. Who has them: Backend::open_link(). Without
// them what ranks exchange goes through host memory (Group).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "parallel/group.h"

namespace liveavatar {

struct DeviceMessage {
  int rank = 0;   // the other end
  Tensor tensor;  // of this rank's device
};

// One rank's end. All ranks of the stage make the same calls in the same order, on the thread of the backend. A failure
// is that of the group, which a link ends when it fails itself; what was received is undefined after it.
class DeviceLink {
 public:
  virtual ~DeviceLink() = default;
  // Enqueues all of them as one op of the backend and returns. Two ranks name the same sizes for what is between them.
  virtual Status exchange(std::span<const DeviceMessage> sends, std::span<const DeviceMessage> receives) = 0;
  // Waits for all exchanges: if it is ok, all was received.
  virtual Status finish() = 0;
};

struct LinkChoice {
  std::unique_ptr<DeviceLink> link;  // null on one rank: null on all
  std::string text;                  // "NCCL 2.28.9"; or why there is none
};

// What a rank says of itself before a link is opened.
struct LinkOffer {
  std::string device;  // names it among all machines; empty: it cannot be linked
  std::string reason;  // why it cannot
};

// For those who open links. All ranks call it at the same point, and all get the same answer: why there is no link, or
// an empty text. Two ranks with the same device cannot be linked.
Expected<std::string> agree_on_link(Group& stage, const LinkOffer& own);
// The part of a rank that cannot be linked.
Expected<LinkChoice> decline_link(Group& stage, const std::string& reason);

// A short text between ranks: of one size, so that it can be waited for beside other things.
class LinkText {
 public:
  LinkText() = default;
  explicit LinkText(const std::string& text);
  std::string text() const;
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(characters_)); }

 private:
  char characters_[256] = {};
};

}  // namespace liveavatar
