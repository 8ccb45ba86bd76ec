// Server-sent events, and the answers of a chat that are made of them.
#include "mind/sse_reader.h"

#include <gtest/gtest.h>

#include "mind/chat.h"

namespace liveavatar {
namespace {

using Events = std::vector<std::string>;

Events read(const std::string& text, size_t piece = std::string::npos) {
  SseReader reader;
  Events all;
  for (size_t at = 0; at < text.size(); at += std::min(piece, text.size() - at)) {
    const auto events = reader.push(std::string_view(text).substr(at, piece));
    EXPECT_TRUE(events.ok());
    for (const std::string& event : *events) all.push_back(event);
  }
  return all;
}

TEST(SseReader, GivesTheDataOfEachEvent) {
  EXPECT_EQ(read("data: one\n\ndata:two\n\n: comment\nevent: x\nid: 3\ndata: three\n\n"),
            (Events{"one", "two", "three"}));
  EXPECT_EQ(read("data: a\ndata: b\ndata\n\n"), Events{"a\nb\n"});
  EXPECT_EQ(read("event: empty\n\n\n\ndata: not ended"), Events{});
  EXPECT_EQ(read("data:  two spaces\n\n"), Events{" two spaces"});
}

TEST(SseReader, TakesEveryEndOfALineAndEveryCut) {
  for (const std::string end : {"\n", "\r", "\r\n"}) {
    const std::string text = "data: 1" + end + "data: 2" + end + end + "data: 3" + end + end;
    for (size_t piece = 1; piece < 10; ++piece) EXPECT_EQ(read(text, piece), (Events{"1\n2", "3"})) << piece;
  }
}

TEST(SseReader, RefusesAnEventWithoutAnEnd) {
  SseReader reader;
  Status status;
  for (int i = 0; i < 3 && status.ok(); ++i) status = reader.push(std::string(600 << 10, 'x')).status();
  EXPECT_EQ(status.code(), ErrorCode::kCorrupt);
}

TEST(ChatHistory, ForgetsTheOldestAndStaysSmall) {
  ChatHistory history;
  history.add({false, ""});
  EXPECT_TRUE(history.messages().empty());
  for (int i = 0; i < 200; ++i) history.add({i % 2 == 1, std::to_string(i)});
  EXPECT_EQ(history.messages().size(), ChatHistory::kMostMessages);
  EXPECT_EQ(history.messages().back().text, "199");
  for (int i = 0; i < 10; ++i) history.add({false, std::string(6 << 10, 'x')});
  EXPECT_LE(history.messages().size(), ChatHistory::kMostBytes / (6 << 10));
}

}  // namespace
}  // namespace liveavatar
