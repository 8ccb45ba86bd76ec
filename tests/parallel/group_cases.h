// What every transport of a Group has to do: one test for each, over groups that `run` starts.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <vector>

#include "parallel/group.h"

namespace liveavatar {

// Each rank, at once with the others.
using RankBody = std::function<void(Group&)>;

inline std::span<const std::byte> bytes_of(const std::vector<int>& values) { return std::as_bytes(std::span(values)); }
inline std::span<std::byte> room_in(std::vector<int>& values) { return std::as_writable_bytes(std::span(values)); }

// Every rank sends to every other, with every tag, all at once.
inline void everyone_to_everyone(Group& group) {
  auto value = [](int from, int to, int tag) { return (from * 64 + to) * 64 + tag; };
  auto for_each = [&](const std::function<void(int other, int tag)>& body) {
    for (int other = 0; other < group.size(); ++other)
      for (int tag = 0; tag < kTagCount; ++tag)
        if (other != group.rank()) body(other, tag);
  };
  std::vector<std::vector<int>> outbox;
  for_each([&](int to, int tag) { outbox.push_back(std::vector<int>(1000, value(group.rank(), to, tag))); });
  size_t next = 0;
  for_each([&](int to, int tag) {
    ASSERT_TRUE(group.start_send(to, static_cast<Tag>(tag), bytes_of(outbox[next++])).ok());
  });
  for_each([&](int from, int tag) {
    const int last_first = kTagCount - 1 - tag;  // not in the order of sending
    std::vector<int> got(1000, -1);
    ASSERT_TRUE(group.receive(from, static_cast<Tag>(last_first), room_in(got)).ok());
    EXPECT_EQ(got, std::vector<int>(1000, value(from, group.rank(), last_first)));
  });
  for_each([&](int to, int tag) { ASSERT_TRUE(group.finish_send(to, static_cast<Tag>(tag)).ok()); });
}

// A hundred messages around the ring, of growing sizes, empty ones too.
inline void around_the_ring(Group& group) {
  const int next = (group.rank() + 1) % group.size(), before = (group.rank() + group.size() - 1) % group.size();
  for (int i = 0; i < 100; ++i) {
    std::vector<int> out(static_cast<size_t>(i) * 97), in(out.size());
    std::iota(out.begin(), out.end(), group.rank() + i);
    ASSERT_TRUE(group.start_send(next, Tag::kBlock, bytes_of(out)).ok());
    ASSERT_TRUE(group.receive(before, Tag::kBlock, room_in(in)).ok());
    ASSERT_TRUE(group.finish_send(next, Tag::kBlock).ok());
    std::iota(out.begin(), out.end(), before + i);
    EXPECT_EQ(in, out);
  }
}

// A message is there when it was sent, and taken when it was received, not before.
inline void arrived_and_taken(Group& group) {
  if (group.rank() > 1) return;
  std::vector<int> value(1, 7), go(1, 1);
  if (group.rank() == 0) {
    EXPECT_FALSE(*group.arrived(1, Tag::kBlock));
    EXPECT_TRUE(*group.taken(1, Tag::kBlock));
    ASSERT_TRUE(group.start_send(1, Tag::kBlock, bytes_of(value)).ok());
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(*group.taken(1, Tag::kBlock));
    ASSERT_TRUE(group.send(1, Tag::kJob, bytes_of(go)).ok());
    while (!*group.taken(1, Tag::kBlock)) {
    }
    ASSERT_TRUE(group.finish_send(1, Tag::kBlock).ok());
  } else {
    ASSERT_TRUE(group.receive(0, Tag::kJob, room_in(go)).ok());
    while (!*group.arrived(0, Tag::kBlock)) {
    }
    ASSERT_TRUE(group.receive(0, Tag::kBlock, room_in(value)).ok());
    EXPECT_FALSE(*group.arrived(0, Tag::kBlock));
  }
}

inline void texts_and_broadcasts(Group& group) {
  std::vector<int> values(5000, group.rank() == 1 ? 17 : 0);
  ASSERT_TRUE(group.broadcast(1, Tag::kPrompt, room_in(values)).ok());
  EXPECT_EQ(values, std::vector<int>(5000, 17));
  if (group.rank() == 0) {
    for (int to = 1; to < group.size(); ++to) ASSERT_TRUE(group.send_text(to, Tag::kJob, "to make").ok());
  } else {
    auto text = group.receive_text(0, Tag::kJob);
    ASSERT_TRUE(text.ok());
    EXPECT_EQ(*text, "to make");
  }
}

// The first and the last rank, in a group of two.
inline void part_of_a_group(Group& group) {
  const int last = group.size() - 1;
  if (group.rank() != 0 && group.rank() != last) return;
  SubGroup pair(group, {0, last});
  EXPECT_EQ(pair.size(), 2);
  EXPECT_EQ(pair.place(1).device, group.place(last).device);
  std::vector<int> values(10, pair.rank() == 0 ? 5 : 0);
  ASSERT_TRUE(pair.broadcast(0, Tag::kExchange, room_in(values)).ok());
  EXPECT_EQ(values, std::vector<int>(10, 5));
}

// All others wait for what never comes, some to send, some to receive.
inline void a_failure_ends_every_wait(Group& group) {
  std::vector<int> values(100000);
  if (group.rank() == group.size() - 1) return group.abort(out_of_memory("rank x: no memory"));
  const int last = group.size() - 1;
  Status status = group.rank() == 0 ? group.send(last, Tag::kBlock, bytes_of(values))
                                    : group.receive(last, Tag::kBlock, room_in(values));
  EXPECT_EQ(status.code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(status.message(), "rank x: no memory");
  EXPECT_EQ(group.receive(last, Tag::kReport, room_in(values)).message(), "rank x: no memory");
}

}  // namespace liveavatar
