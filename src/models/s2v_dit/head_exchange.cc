#include "models/s2v_dit/head_exchange.h"

#include <algorithm>

#include "ops/layout.h"
#include "ops/transfer.h"

namespace liveavatar {
namespace {

constexpr int64_t kMostTensors = 3;  // q, k, v

// A part of a byte buffer as a tensor, from `offset` on, which moves behind it.
Tensor take(const Tensor& bytes, const Shape& shape, DType dtype, size_t& offset) {
  Tensor part(static_cast<std::byte*>(bytes.address()) + offset, shape, dtype, bytes.device);
  offset += part.bytes();
  LA_CHECK(offset <= bytes.bytes());
  return part;
}

}  // namespace

ExchangeBuffers::ExchangeBuffers(const DitConfig& c, const DitGeometry& g, DType dtype, Arena& arena) {
  const int64_t item = static_cast<int64_t>(dtype_bytes(dtype));
  const int64_t width = c.of_own_heads(g.share).dim, head = c.channels * patch_volume(kPatch) * 4;
  int64_t out = 0, in = 0;
  for (const TokenLayout& layout : {g.block_layout(), g.sink_layout()}) {
    const int64_t own_rows = layout.own_rows(g.share), other_rows = layout.rows() - own_rows;
    // Tokens for heads; heads for tokens; the head's f32 rows, of which the staging has what is sent.
    out = std::max({out, kMostTensors * own_rows * (c.dim - width) * item, other_rows * width * item, own_rows * head});
    in = std::max({in, kMostTensors * other_rows * width * item, own_rows * (c.dim - width) * item, other_rows * head});
  }
  outbox = arena.tensor({out}, DType::kU8);
  inbox = arena.tensor({in}, DType::kU8);
}

Range HeadExchange::columns_of(int64_t rank, int64_t width) const {
  const int64_t d = width / memory_.heads;
  const Range heads = share_.of(memory_.heads, rank);
  return {heads.first * d, heads.count * d};
}

template <typename Body>
void HeadExchange::for_each_other(const Body& body) {
  for (int64_t step = 1; step < share_.ranks && status_.ok(); ++step) body((share_.index + step) % share_.ranks);
}

Status HeadExchange::open_link() {
  LA_ASSIGN_OR_RETURN(LinkChoice choice, backend_.open_link(stage_));
  link_ = std::move(choice.link);
  link_text_ = (link_ == nullptr ? "host memory: " : "") + choice.text;
  return {};
}

// The outbox is free: over the link, whose exchanges are ops, it always is.
void HeadExchange::begin() {
  outgoing_.clear();
  staged_bytes_ = 0;
  if (link_ == nullptr) finish_sends();
}

Status HeadExchange::finish() {
  if (link_ != nullptr && status_.ok()) status_ = link_->finish();
  return status_;
}

std::span<const std::byte> HeadExchange::in_host(const Tensor& message) {
  auto* host = static_cast<std::byte*>(message.address());
  if (!message.device.is_host()) {
    host = memory_.staging + staged_bytes_;
    staged_bytes_ += message.bytes();
    LA_CHECK(staged_bytes_ <= memory_.buffers.outbox.bytes());
    backend_.download(message, host);
  }
  return {host, message.bytes()};
}

void HeadExchange::send(int64_t rank, const Tensor& message) {
  if (link_ == nullptr) return send_host(rank, in_host(message));
  outgoing_.push_back({static_cast<int>(rank), message});
}

void HeadExchange::send_host(int64_t rank, std::span<const std::byte> message) {
  status_ = stage_.start_send(static_cast<int>(rank), Tag::kExchange, message);
}

bool HeadExchange::receive(int64_t rank, const Tensor& message) {
  const bool on_host = message.device.is_host();
  auto* host = static_cast<std::byte*>(message.address());
  if (!on_host) host = memory_.staging + memory_.buffers.outbox.bytes();
  status_ = stage_.receive(static_cast<int>(rank), Tag::kExchange, {host, message.bytes()});
  if (!on_host && status_.ok()) backend_.upload(host, message);
  return status_.ok();
}

template <typename ShapeOf, typename Unpack>
void HeadExchange::receive_all(DType dtype, const ShapeOf& shape_of, const Unpack& unpack) {
  if (link_ == nullptr) {
    for_each_other([&](int64_t from) {
      size_t at = 0;
      const Tensor message = take(memory_.buffers.inbox, shape_of(from), dtype, at);
      if (receive(from, message)) unpack(from, message);
    });
    return;
  }
  std::vector<DeviceMessage> incoming;
  size_t at = 0;
  for_each_other([&](int64_t from) {
    incoming.push_back({static_cast<int>(from), take(memory_.buffers.inbox, shape_of(from), dtype, at)});
  });
  if (status_.ok()) status_ = link_->exchange(outgoing_, incoming);
  if (!status_.ok()) return;
  for (const DeviceMessage& m : incoming) unpack(m.rank, m.tensor);
}

void HeadExchange::finish_sends() {
  for (int64_t rank = 0; rank < share_.ranks; ++rank) {
    if (rank == share_.index) continue;
    const Status finished = stage_.finish_send(static_cast<int>(rank), Tag::kExchange);
    if (status_.ok()) status_ = finished;
  }
}

void HeadExchange::to_heads(const TokenLayout& layout, std::span<const Tensor> own, std::span<const Tensor> all) {
  LA_CHECK(own.size() == all.size() && own.size() <= kMostTensors);
  const int64_t width = own.front().dim(1), own_rows = layout.own_rows(share_);
  const int64_t own_width = all.front().dim(1);
  begin();
  size_t sent = 0;
  for_each_other([&](int64_t to) {
    const Range columns = columns_of(to, width);
    const size_t begin = sent;
    for (const Tensor& t : own)
      ops::copy_block(backend_, {t, 0, columns.first},
                      {take(memory_.buffers.outbox, {own_rows, columns.count}, t.dtype, sent), 0, 0},
                      {own_rows, columns.count});
    size_t at = begin;
    send(to, take(memory_.buffers.outbox, {static_cast<int64_t>(sent - begin)}, DType::kU8, at));
  });
  const Range mine = columns_of(share_.index, width);
  for (size_t i = 0; i < own.size(); ++i) {
    for_each_range(layout, share_, share_.index, {0, layout.rows()}, [&](int64_t row, int64_t own_row, int64_t rows) {
      ops::copy_block(backend_, {own[i], own_row, mine.first}, {all[i], row, 0}, {rows, own_width});
    });
  }
  const auto shape_of = [&](int64_t from) {
    return Shape{static_cast<int64_t>(own.size()) * layout.rows_of(share_, from), own_width};
  };
  receive_all(own.front().dtype, shape_of, [&](int64_t from, const Tensor& message) {
    const int64_t from_rows = layout.rows_of(share_, from);
    for (size_t i = 0; i < own.size(); ++i) {
      for_each_range(layout, share_, from, {0, layout.rows()}, [&](int64_t row, int64_t from_row, int64_t rows) {
        const int64_t message_row = static_cast<int64_t>(i) * from_rows + from_row;
        ops::copy_block(backend_, {message, message_row, 0}, {all[i], row, 0}, {rows, own_width});
      });
    }
  });
}

void HeadExchange::to_tokens(const TokenLayout& layout, const Tensor& heads, const Tensor& own) {
  const int64_t own_width = heads.dim(1), width = own.dim(1), own_rows = layout.own_rows(share_);
  begin();
  size_t sent = 0;
  for_each_other([&](int64_t to) {
    const Tensor message = take(memory_.buffers.outbox, {layout.rows_of(share_, to), own_width}, heads.dtype, sent);
    for_each_range(layout, share_, to, {0, layout.rows()}, [&](int64_t row, int64_t to_row, int64_t rows) {
      ops::copy_block(backend_, {heads, row, 0}, {message, to_row, 0}, {rows, own_width});
    });
    send(to, message);
  });
  const Range mine = columns_of(share_.index, width);
  for_each_range(layout, share_, share_.index, {0, layout.rows()}, [&](int64_t row, int64_t own_row, int64_t rows) {
    ops::copy_block(backend_, {heads, row, 0}, {own, own_row, mine.first}, {rows, own_width});
  });
  const auto shape_of = [&](int64_t from) { return Shape{own_rows, columns_of(from, width).count}; };
  receive_all(own.dtype, shape_of, [&](int64_t from, const Tensor& message) {
    const Range columns = columns_of(from, width);
    ops::copy_block(backend_, {message, 0, 0}, {own, 0, columns.first}, {own_rows, columns.count});
  });
}

void HeadExchange::gather(const TokenLayout& layout, const Tensor& own, const Tensor& all) {
  begin();
  if (link_ == nullptr) {
    const std::span<const std::byte> message = in_host(own);
    for_each_other([&](int64_t to) { send_host(to, message); });
  } else {
    for_each_other([&](int64_t to) { send(to, own); });
  }
  auto place = [&](int64_t rank, const Tensor& rows_of_rank) {
    for_each_range(layout, share_, rank, {0, layout.rows()}, [&](int64_t row, int64_t its_row, int64_t rows) {
      ops::copy_block(backend_, {rows_of_rank, its_row, 0}, {all, row, 0}, {rows, all.dim(1)});
    });
  };
  place(share_.index, own);
  const auto shape_of = [&](int64_t from) { return Shape{layout.rows_of(share_, from), own.dim(1)}; };
  receive_all(own.dtype, shape_of, place);
  if (link_ == nullptr) finish_sends();  // the next op writes to `own`
}

}  // namespace liveavatar
