#include "parallel/group.h"

#include <algorithm>

namespace liveavatar {

const char* tag_name(Tag tag) {
  switch (tag) {
    case Tag::kJob:
      return "the job";
    case Tag::kPrompt:
      return "the prompt";
    case Tag::kPortrait:
      return "the portrait";
    case Tag::kReference:
      return "the sink's latent";
    case Tag::kBlock:
      return "a block";
    case Tag::kFinished:
      return "a finished block";
    case Tag::kExchange:
      return "a layer's tokens";
    case Tag::kWeights:
      return "a request for weights";
    case Tag::kPage:
      return "a layer's weights";
    case Tag::kLink:
      return "how it is linked";
    case Tag::kReport:
      return "a report";
    case Tag::kSnapshot:
      return "its part of a snapshot";
  }
  return "a message";
}

Status Group::send(int to, Tag tag, std::span<const std::byte> data) {
  LA_RETURN_IF_ERROR(start_send(to, tag, data));
  return finish_send(to, tag);
}

Status Group::send_text(int to, Tag tag, const std::string& text) {
  const uint64_t length = text.size();
  LA_RETURN_IF_ERROR(send(to, tag, std::as_bytes(std::span(&length, 1))));
  return send(to, tag, std::as_bytes(std::span(text)));
}

Expected<std::string> Group::receive_text(int from, Tag tag) {
  constexpr uint64_t kLongest = uint64_t{64} << 20;
  uint64_t length = 0;
  LA_RETURN_IF_ERROR(receive(from, tag, std::as_writable_bytes(std::span(&length, 1))));
  if (length > kLongest) return corrupt(name_of(from) + " sent a text that is too long; it runs another program");
  std::string text(length, '\0');
  LA_RETURN_IF_ERROR(receive(from, tag, std::as_writable_bytes(std::span(text))));
  return text;
}

Status Group::broadcast(int root, Tag tag, std::span<std::byte> data) {
  if (rank() != root) return receive(root, tag, data);
  Status first;
  auto keep = [&](const Status& status) {
    if (first.ok()) first = status;
  };
  for (int to = 0; to < size(); ++to)
    if (to != root && first.ok()) keep(start_send(to, tag, data));
  for (int to = 0; to < size(); ++to)  // all of them: nobody reads the data any more when this returns
    if (to != root) keep(finish_send(to, tag));
  return first;
}

std::string Group::name_of(int rank) const {
  const Place at = place(rank);
  return "rank " + std::to_string(rank) + " (" + at.host + ", " + at.device + ")";
}

Status waited_too_long(const std::string& what, double seconds) {
  return io_error(what + " for " + std::to_string(static_cast<int64_t>(seconds)) +
                  " s; it hangs, or is much slower than the others: give it less of the work");
}

SubGroup::SubGroup(Group& whole, std::vector<int> members) : whole_(whole), members_(std::move(members)) {
  const auto own = std::find(members_.begin(), members_.end(), whole.rank());
  LA_CHECK(own != members_.end() && std::is_sorted(members_.begin(), members_.end()));
  rank_ = static_cast<int>(own - members_.begin());
}

}  // namespace liveavatar
