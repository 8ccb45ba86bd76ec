// Ranks that are threads.
#include "parallel/local_group.h"

#include <chrono>
#include <stop_token>
#include <thread>

#include "group_cases.h"

namespace liveavatar {
namespace {

void run(int ranks, const RankBody& body, const Group::Options& options = {}) {
  const std::vector<std::string> devices(static_cast<size_t>(ranks), "cpu");
  std::vector<std::unique_ptr<Group>> groups = open_local_groups(devices, options);
  std::vector<std::jthread> threads;
  for (std::unique_ptr<Group>& group : groups) threads.emplace_back([&] { body(*group); });
}

TEST(LocalGroup, EveryRankReachesEveryOther) {
  for (int ranks = 1; ranks <= 5; ++ranks) run(ranks, everyone_to_everyone);
}

TEST(LocalGroup, MessagesOfAllSizesArriveInOrder) {
  for (int ranks : {2, 3, 5}) run(ranks, around_the_ring);
}

TEST(LocalGroup, AMessageIsTakenWhenItIsReceived) {
  for (int ranks : {2, 3}) run(ranks, arrived_and_taken);
}

TEST(LocalGroup, AFailureAsksEachRankToStop) {
  std::atomic<int> asked = 0;
  run(3, [&](Group& group) {
    const std::stop_token stop = group.failure_token();
    EXPECT_FALSE(stop.stop_requested());
    std::vector<int> value(1);
    if (group.rank() == 2) {
      for (int from : {0, 1}) EXPECT_TRUE(group.receive(from, Tag::kJob, room_in(value)).ok());
      group.abort(cancelled("stop"));
    } else {
      EXPECT_TRUE(group.send(2, Tag::kJob, bytes_of(value)).ok());
      EXPECT_FALSE(group.receive(2, Tag::kBlock, room_in(value)).ok());
    }
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!stop.stop_requested() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    if (stop.stop_requested()) ++asked;
  });
  EXPECT_EQ(asked, 3);
}

TEST(LocalGroup, TextsAndBroadcasts) {
  for (int ranks : {2, 3, 5}) run(ranks, texts_and_broadcasts);
}

TEST(LocalGroup, APartOfAGroupIsAGroup) {
  for (int ranks : {2, 3, 5}) run(ranks, part_of_a_group);
}

TEST(LocalGroup, AFailureEndsEveryWait) {
  for (int ranks : {2, 3, 5}) run(ranks, a_failure_ends_every_wait);
}

TEST(LocalGroup, AWaitHasAnEndAndNamesWhatItWaitedFor) {
  auto body = [](Group& group) {
    std::vector<int> values(10);
    if (group.rank() == 1) return;
    const Status late = group.receive(1, Tag::kFinished, room_in(values));
    EXPECT_EQ(late.code(), ErrorCode::kIo);
    EXPECT_NE(late.message().find("rank 1 ("), std::string::npos) << late.message();
    EXPECT_NE(late.message().find("a finished block"), std::string::npos) << late.message();
    EXPECT_EQ(group.status().message(), late.message());
  };
  run(2, body, {.wait_s = 0.2});
}

// The data of a send that failed is not read afterwards: address and thread sanitizers would see it.
TEST(LocalGroup, AFailureWhileMessagesAreCopiedLeavesMemoryAlone) {
  for (int turn = 0; turn < 50; ++turn) {
    run(3, [&](Group& group) {
      if (group.rank() == 2) {
        std::this_thread::sleep_for(std::chrono::microseconds(turn * 20));
        return group.abort(cancelled("stop"));
      }
      const int other = 1 - group.rank();
      for (int i = 0; i < 1000; ++i) {
        std::vector<int> out(20000, i), in(out.size());
        const Status started = group.start_send(other, Tag::kBlock, bytes_of(out));
        const Status received = started.ok() ? group.receive(other, Tag::kBlock, room_in(in)) : started;
        const Status finished = group.finish_send(other, Tag::kBlock);
        if (!received.ok() || !finished.ok()) return;
        ASSERT_EQ(in, out);
      }
    });
  }
}

}  // namespace
}  // namespace liveavatar
