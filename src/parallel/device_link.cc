#include "parallel/device_link.h"

#include <algorithm>

namespace liveavatar {
namespace {

constexpr char kCan = '+', kCannot = '-';

// Of all ranks, by rank.
Expected<std::vector<std::string>> gather(Group& stage, LinkText& own) {
  std::vector<std::string> texts(static_cast<size_t>(stage.size()), own.text());
  for (int to = 0; to < stage.size(); ++to)
    if (to != stage.rank()) LA_RETURN_IF_ERROR(stage.start_send(to, Tag::kLink, own.bytes()));
  for (int from = 0; from < stage.size(); ++from) {
    if (from == stage.rank()) continue;
    LinkText in;
    LA_RETURN_IF_ERROR(stage.receive(from, Tag::kLink, in.bytes()));
    texts[static_cast<size_t>(from)] = in.text();
  }
  return texts;
}

// Before the texts die, also after a failure.
Status finish_sends(Group& stage) {
  Status status;
  for (int to = 0; to < stage.size(); ++to) {
    if (to == stage.rank()) continue;
    const Status finished = stage.finish_send(to, Tag::kLink);
    if (status.ok()) status = finished;
  }
  return status;
}

std::string why_not(const Group& stage, const std::vector<std::string>& texts) {
  for (int rank = 0; rank < stage.size(); ++rank) {
    const std::string& text = texts[static_cast<size_t>(rank)];
    if (text.empty() || text.front() != kCan)
      return stage.name_of(rank) + ": " + (text.empty() ? "it runs another program" : text.substr(1));
    const auto same = std::find(texts.begin(), texts.begin() + rank, text);
    if (same != texts.begin() + rank)
      return stage.name_of(static_cast<int>(same - texts.begin())) + " and " + stage.name_of(rank) +
             " are on the same card";
  }
  return "";
}

}  // namespace

LinkText::LinkText(const std::string& text) {
  std::copy_n(text.begin(), std::min(text.size(), sizeof characters_ - 1), characters_);
}

std::string LinkText::text() const {
  return {characters_, std::find(std::begin(characters_), std::end(characters_), '\0')};
}

Expected<std::string> agree_on_link(Group& stage, const LinkOffer& own) {
  const bool can = !own.device.empty();
  LinkText offer(can ? kCan + own.device : kCannot + own.reason);
  const Expected<std::vector<std::string>> texts = gather(stage, offer);
  LA_RETURN_IF_ERROR(finish_sends(stage));
  LA_RETURN_IF_ERROR(texts.status());
  return why_not(stage, *texts);
}

Expected<LinkChoice> decline_link(Group& stage, const std::string& reason) {
  LA_ASSIGN_OR_RETURN(std::string why, agree_on_link(stage, {"", reason}));
  return LinkChoice{nullptr, std::move(why)};
}

}  // namespace liveavatar
