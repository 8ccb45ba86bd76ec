// Exchange of tokens for heads among the ranks that share a step (DeepSpeed-Ulysses, arXiv 2309.14509).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "models/s2v_dit/config.h"
#include "parallel/group.h"

namespace liveavatar {

// Buffers of an exchange, in the activations' arena: what is sent to all others, and what all of them sent.
struct ExchangeBuffers {
  Tensor outbox, inbox;  // bytes
  ExchangeBuffers() = default;
  ExchangeBuffers(const DitConfig& config, const DitGeometry& geometry, DType dtype, Arena& arena);
  // Of a HeadExchange's staging, where the device is not the host.
  size_t staging_bytes() const { return outbox.device.is_host() ? 0 : outbox.bytes() + inbox.bytes(); }
};

// One rank's end: from device to device where the backends are linked (DeviceLink), else through host memory. All ranks
// of the stage make the same calls in the same order. A failure of the group sticks: after it nothing is exchanged and
// the outputs are undefined. Not thread-safe.
class HeadExchange {
 public:
  // Where an exchange is: the heads that there are, the buffers, and host memory of staging_bytes() for what goes
  // through the host.
  struct Memory {
    int64_t heads = 0;
    ExchangeBuffers buffers;
    std::byte* staging = nullptr;
  };
  // stage: its ranks, the share's index being the rank. Everything outlives this object.
  HeadExchange(Group& stage, Backend& backend, const RankShare& share, const Memory& memory)
      : stage_(stage), backend_(backend), share_(share), memory_(memory) {}
  ~HeadExchange() {
    if (link_ == nullptr) finish_sends();
  }
  HeadExchange(const HeadExchange&) = delete;
  HeadExchange& operator=(const HeadExchange&) = delete;

  // Opens a link where all ranks have one: before the first exchange.
  Status open_link();
  // What exchanges go over: "NCCL 2.28.9", or "host memory: " and why.
  const std::string& link() const { return link_text_; }
  bool is_linked() const { return link_ != nullptr; }

  // Each of own [own rows, D] -> the same of all [rows, own heads * d]. At most three.
  void to_heads(const TokenLayout& layout, std::span<const Tensor> own, std::span<const Tensor> all);
  // heads [rows, own heads * d] -> own [own rows, D].
  void to_tokens(const TokenLayout& layout, const Tensor& heads, const Tensor& own);
  // own [own rows, N] -> all [rows, N].
  void gather(const TokenLayout& layout, const Tensor& own, const Tensor& all);
  const Status& status() const { return status_; }
  // Waits for all exchanges. Not ok: what was computed from them is undefined.
  Status finish();

 private:
  Range columns_of(int64_t rank, int64_t width) const;
  void begin();
  // The message in host memory, until begin().
  std::span<const std::byte> in_host(const Tensor& message);
  void send(int64_t rank, const Tensor& message);
  void send_host(int64_t rank, std::span<const std::byte> message);
  bool receive(int64_t rank, const Tensor& message);
  void finish_sends();
  // Of the other ranks: each one's message, a tensor of the shape that shape_of(rank) gives, to unpack(rank, message).
  template <typename ShapeOf, typename Unpack>
  void receive_all(DType dtype, const ShapeOf& shape_of, const Unpack& unpack);
  template <typename Body>
  void for_each_other(const Body& body);

  Group& stage_;
  Backend& backend_;
  RankShare share_;
  Memory memory_;
  size_t staged_bytes_ = 0;           // of what is sent in this exchange, from the staging's begin
  std::unique_ptr<DeviceLink> link_;  // null: through host memory
  std::string link_text_;
  std::vector<DeviceMessage> outgoing_;  // of this exchange, over the link
  Status status_;
};

}  // namespace liveavatar
