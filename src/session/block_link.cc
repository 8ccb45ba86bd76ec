#include "session/block_link.h"

#include <cstring>
#include <string>
#include <utility>

#include "ops/transfer.h"

namespace liveavatar {
namespace {

// The parts of a message in their order. part(tensor) for each that the block has; the latents' is the second.
template <typename Part>
void for_each_part(const BlockStart& start, const Part& part) {
  for (const Tensor* tensor : {&start.features, &start.latents, &start.pose, &start.actor_masks})
    if (!tensor->empty()) part(*tensor);
}

// Conditioning of the host (features) and of the backend's device.
void copy_to_host(Backend& backend, const Tensor& from, std::byte* to) {
  if (from.device.is_host()) {
    std::memcpy(to, from.address(), from.bytes());
  } else {
    backend.download(from, to);
  }
}
void copy_from_host(Backend& backend, const std::byte* from, const Tensor& to) {
  if (to.device.is_host()) {
    std::memcpy(to.address(), from, to.bytes());
  } else {
    backend.upload(from, to);
  }
}

std::span<std::byte> bytes_of(const Tensor& t) { return {static_cast<std::byte*>(t.address()), t.bytes()}; }

}  // namespace

// After a failure nobody reads the outboxes any more, which is all that matters here.
BlockSender::~BlockSender() { static_cast<void>(finish_sends()); }

Expected<std::optional<int>> BlockSender::awaited() const {
  for (int to : to_) {
    LA_ASSIGN_OR_RETURN(const bool taken, group_.taken(to, Tag::kBlock));
    if (!taken) return std::optional<int>(to);
  }
  return std::optional<int>();
}

Status BlockSender::finish_sends() {
  Status first;
  for (int to : to_) {
    const Status finished = group_.finish_send(to, Tag::kBlock);
    if (first.ok()) first = finished;
  }
  return first;
}

Status BlockSender::start_sends(int64_t block, bool more) {
  Buffer& message = outbox(block);
  const BlockReceiver::Header header{block, more ? 1 : 0, std::exchange(mark_, {})};
  std::memcpy(message.data(), &header, sizeof(header));
  for (int to : to_) LA_RETURN_IF_ERROR(group_.start_send(to, Tag::kBlock, {message.data(), message.bytes()}));
  return {};
}

Status BlockSender::begin(int64_t block, const BlockStart& start) {
  // With one outbox it is the one that others may still read.
  if (outboxes_.size() == 1) LA_RETURN_IF_ERROR(finish_sends());
  std::byte* to = outbox(block).data();
  size_t at = sizeof(BlockReceiver::Header);
  for_each_part(start, [&](const Tensor& part) {
    if (part.address() == start.latents.address()) {
      latents_at_ = at;
    } else {
      copy_to_host(backend_, part, to + at);
    }
    at += part.bytes();
  });
  return {};
}

Status BlockSender::send(int64_t block, const Tensor& latents) {
  Buffer& message = outbox(block);
  copy_to_host(backend_, latents, message.data() + latents_at_);
  return start_sends(block, true);
}

Status BlockSender::end(int64_t block) {
  LA_RETURN_IF_ERROR(finish_sends());
  return start_sends(block, false);
}

Status BlockSender::visit_state(const BlockRange& blocks, const BlockMemory& memory, StateVisitor& visitor) {
  for (int64_t block = blocks.first; block < blocks.first + blocks.count; ++block) {
    latents_at_ = sizeof(BlockReceiver::Header) + memory.start(block).features.bytes();
    Buffer& message = outbox(block);
    const auto floats = static_cast<int64_t>(message.bytes() / sizeof(float));  // all its parts are some
    const Tensor values(message.data(), {floats}, DType::kF32);
    LA_RETURN_IF_ERROR(visitor.visit("message." + std::to_string(block), values));
  }
  return {};
}

Expected<SnapshotMark> BlockReceiver::next() {
  if (!has_next_) LA_RETURN_IF_ERROR(group_.receive(from_, Tag::kBlock, {inbox_.data(), inbox_.bytes()}));
  has_next_ = true;
  return header().mark;
}

BlockReceiver::Header BlockReceiver::header() const {
  Header header;
  std::memcpy(&header, inbox_.data(), sizeof(header));
  return header;
}

Expected<std::optional<BlockStart>> BlockReceiver::receive(int64_t block) {
  LA_RETURN_IF_ERROR(next().status());
  has_next_ = false;
  if (!more()) return std::optional<BlockStart>();
  LA_CHECK(header().block == block);
  BlockStart start = blocks_.start(block);
  size_t at = sizeof(Header);
  for_each_part(start, [&](const Tensor& part) {
    copy_from_host(backend_, inbox_.data() + at, part);
    at += part.bytes();
  });
  return std::optional<BlockStart>(start);
}

Status start_finished(Group& group, Backend& backend, const Tensor& latents, Buffer& host) {
  LA_RETURN_IF_ERROR(group.finish_send(0, Tag::kFinished));
  copy_to_host(backend, latents, host.data());
  return group.start_send(0, Tag::kFinished, {host.data(), latents.bytes()});
}

Status receive_finished(Group& group, int from, Backend& backend, const Tensor& latents, Buffer& host) {
  LA_RETURN_IF_ERROR(group.receive(from, Tag::kFinished, {host.data(), latents.bytes()}));
  copy_from_host(backend, host.data(), latents);
  return {};
}

Status send_tensor(Group& group, const std::vector<int>& to, Tag tag, const Download& values) {
  Status status;
  for (int rank : to)
    if (status.ok()) status = group.start_send(rank, tag, bytes_of(values.tensor()));
  for (int rank : to) {
    const Status finished = group.finish_send(rank, tag);
    if (status.ok()) status = finished;
  }
  return status;
}

Status receive_tensor(Group& group, int from, Tag tag, Backend& backend, const Tensor& tensor) {
  if (tensor.device.is_host()) return group.receive(from, tag, bytes_of(tensor));
  const std::unique_ptr<std::byte[]> staging = std::make_unique<std::byte[]>(tensor.bytes());
  LA_RETURN_IF_ERROR(group.receive(from, tag, {staging.get(), tensor.bytes()}));
  backend.upload(staging.get(), tensor);
  return backend.synchronize();
}

}  // namespace liveavatar
