// Exchange of tokens for heads among the ranks that share a step (DeepSpeed-Ulysses, arXiv 2309.14509).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "models/s2v_dit/config.h"
#include "ops/transfer.h"
#include "parallel/group.h"

namespace liveavatar {

// Buffers of an exchange, in the activations' arena: what is sent to all others, and what all of them sent.
struct ExchangeBuffers {
  Tensor outbox, inbox;  // bytes
  ExchangeBuffers() = default;
  ExchangeBuffers(const DitConfig& config, const DitGeometry& geometry, DType dtype, Arena& arena);
};

// One rank's end: from device to device where the backends are linked (DeviceLink), else through host memory. All ranks
// of the stage make the same calls in the same order. A failure of the group sticks: after it nothing is exchanged and
// the outputs are undefined. Not thread-safe.
class HeadExchange {
 public:
  // stage: its ranks, the share's index being the rank. Everything outlives this object.
  HeadExchange(Group& stage, Backend& backend, const DitConfig& config, const RankShare& share,
               const ExchangeBuffers& buffers)
      : stage_(stage),
        backend_(backend),
        heads_(config.heads),
        share_(share),
        buffers_(buffers),
        sent_(static_cast<size_t>(share.ranks)) {}
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
  void send(int64_t rank, const Tensor& message);
  bool receive(int64_t rank, const Tensor& message);
  void finish_sends();
  // Of the other ranks: each one's message, a tensor of the shape that shape_of(rank) gives, to unpack(rank, message).
  template <typename ShapeOf, typename Unpack>
  void receive_all(DType dtype, const ShapeOf& shape_of, const Unpack& unpack);
  template <typename Body>
  void for_each_other(const Body& body);

  Group& stage_;
  Backend& backend_;
  int64_t heads_;
  RankShare share_;
  ExchangeBuffers buffers_;
  std::vector<std::unique_ptr<Download>> sent_;  // to each rank, until it has it
  std::unique_ptr<DeviceLink> link_;             // null: through host memory
  std::string link_text_;
  std::vector<DeviceMessage> outgoing_;  // of this exchange, over the link
  Status status_;
};

}  // namespace liveavatar
