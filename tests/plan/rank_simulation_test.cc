// The pipeline over ranks against cases worked out by hand. Seconds are whole numbers, so nothing is rounded.
#include "plan/rank_simulation.h"

#include <gtest/gtest.h>

namespace liveavatar {
namespace {

constexpr Link kFastLink{1e30, 0};

Placement stages(const std::vector<int64_t>& shares, bool vae_rank = false, int ulysses_size = 1) {
  Placement p;
  p.stages.clear();
  p.vae_rank = vae_rank;
  p.ulysses_size = ulysses_size;
  int64_t first = 0;
  for (int64_t share : shares) {
    p.stages.push_back({first, share});
    first += share;
  }
  return p;
}

StageTimes step_of(double seconds) {
  StageTimes times;
  times.step.by_tokens_s = seconds;
  return times;
}

void expect_seconds(const RankSimulation& s, double first_frame_s, double seconds) {
  EXPECT_NEAR(s.first_frame_s, first_frame_s, 1e-6);
  EXPECT_NEAR(s.seconds, seconds, 1e-6);
}

void expect_block_s(const RankSimulation& s, double seconds) {
  EXPECT_NEAR(double(kBlockFrames) / s.steady_frames_per_s, seconds, 1e-6);
}

// 1 s for the sink; a block: half a second, four steps of 2 s, 3 s of decoding.
TEST(RankSimulation, OneRankDoesOneThingAfterTheOther) {
  StageTimes times = step_of(2);
  times.prefill.by_tokens_s = 1;
  times.condition_s = 0.5;
  times.decode_s = 3;
  const RankSimulation s = simulate_ranks(stages({4}), {2, 4}, times, kFastLink);
  expect_seconds(s, 12.5, 24);
  expect_block_s(s, 11.5);
  EXPECT_NEAR(s.frames_per_s, 1, 1e-9);
  EXPECT_NEAR(s.ranks[0].waiting_share, 0, 1e-9);
  EXPECT_EQ(s.limit.text(), "rank 0: sampling");
}

// Block 0 until 9; its decoding and block 1 share the device until 15, when 3 s of block 1 are done; block 1 until 20.
TEST(RankSimulation, DecodingBesideSamplingSharesTheDevice) {
  StageTimes times = step_of(2);
  times.prefill.by_tokens_s = 1;
  times.decode_s = 3;
  times.decode_beside = true;
  const RankSimulation s = simulate_ranks(stages({4}), {2, 4}, times, kFastLink);
  expect_seconds(s, 15, 23);
  expect_block_s(s, 11);
}

TEST(RankSimulation, WithoutOnlineDecodeAllIsDecodedAtTheEnd) {
  StageTimes times = step_of(2);
  times.decode_s = 3;
  times.online_decode = false;
  expect_seconds(simulate_ranks(stages({4}), {3, 4}, times, kFastLink), 27, 33);
  // The last block is done at 8: nobody waited for a decoder.
  expect_seconds(simulate_ranks(stages({2, 2}), {3, 4}, step_of(1), kFastLink), 4, 8);
}

TEST(RankSimulation, TwoEqualStagesMakeABlockInTheTimeOfOne) {
  const RankSimulation s = simulate_ranks(stages({2, 2}), {3, 4}, step_of(1), kFastLink);
  expect_seconds(s, 4, 8);
  expect_block_s(s, 2);
  for (const RankLoad& rank : s.ranks) {
    EXPECT_NEAR(rank.busy_share, 0.75, 1e-6);
    EXPECT_NEAR(rank.waiting_share, 0.25, 1e-6);
  }
}

// The lead is done with block 2 at 3 and keeps it until block 1 is taken at 4. Then it decodes block 0, and block 3 is
// done at 6. Rank 1 has block 3 from 10 to 13.
TEST(RankSimulation, ASlowerStageHoldsTheOneBeforeIt) {
  StageTimes times = step_of(1);
  times.decode_s = 1;
  const RankSimulation s = simulate_ranks(stages({1, 3}), {4, 8}, times, kFastLink);
  expect_seconds(s, 5, 14);
  expect_block_s(s, 3);
  EXPECT_NEAR(s.ranks[0].busy_share, 8.0 / 14, 1e-6);
  EXPECT_NEAR(s.ranks[1].busy_share, 12.0 / 14, 1e-6);
  EXPECT_EQ(s.limit.text(), "rank 1: sampling");
}

// The lead samples for 2 s of 5, and rank 1 waits for 3 s of 5.
TEST(RankSimulation, ALeadThatDecodesInTurnsHoldsTheStagesBehindIt) {
  StageTimes times = step_of(1);
  times.decode_s = 3;
  const RankSimulation s = simulate_ranks(stages({2, 2}), {1000, 4}, times, kFastLink);
  expect_block_s(s, 5);
  EXPECT_NEAR(s.ranks[1].waiting_share, 0.6, 0.01);
  EXPECT_EQ(s.limit.text(), "rank 0: decoding");
}

// Finished at 4, 6 and 8; decoded from 4, 7 and 10.
TEST(RankSimulation, ARankOfItsOwnForTheVaeDecodesWhileTheOthersSample) {
  StageTimes times = step_of(1);
  times.decode_s = 3;
  times.decode_beside = true;
  const RankSimulation s = simulate_ranks(stages({2, 2}, true), {3, 4}, times, kFastLink);
  expect_seconds(s, 7, 13);
  expect_block_s(s, 3);
  EXPECT_EQ(s.limit.text(), "rank 0: decoding");
}

// In turns it gives the others a block before it decodes one, so they never wait for it. It decodes from 4 on.
TEST(RankSimulation, AVaeRankGivesTheOthersABlockBeforeItDecodes) {
  StageTimes times = step_of(1);
  times.decode_s = 3;
  expect_seconds(simulate_ranks(stages({2, 2}, true), {4, 4}, times, kFastLink), 7, 16);
  expect_block_s(simulate_ranks(stages({2, 2}, true), {4, 4}, times, kFastLink), 3);
}

// Both fill their sinks until 5. Block 0 is finished at 9. The lead then fills its sink again until 14 and has block 2
// until 16; rank 1 is done with block 1 at 11 and with its sink at 16.
TEST(RankSimulation, EachRankFillsItsSinkAgainWhenItIsDoneWithTheFirstClip) {
  StageTimes times = step_of(1);
  times.prefill.by_tokens_s = 5;
  expect_seconds(simulate_ranks(stages({2, 2}), {3, 4}, times, kFastLink), 9, 13);
  expect_seconds(simulate_ranks(stages({2, 2}), {3, 2}, times, kFastLink), 9, 18);
  // The message takes 2 s: rank 1 fills its sink from 11, too, which makes no difference.
  times.reference_bytes = 2;
  expect_seconds(simulate_ranks(stages({2, 2}), {3, 2}, times, {1, 0}), 9, 18);
}

// With a clip of one block the lead waits from 7 to 9 for its first latent.
TEST(RankSimulation, TheSinkWaitsForTheFirstLatent) {
  StageTimes times = step_of(1);
  times.prefill.by_tokens_s = 5;
  expect_seconds(simulate_ranks(stages({2, 2}), {2, 1}, times, kFastLink), 9, 18);
  times.reference_bytes = 4;  // there at 13: rank 1 is done with its sink at 18
  expect_seconds(simulate_ranks(stages({2, 2}), {2, 1}, times, {1, 0}), 9, 20);
}

// A message takes 6 s. Block 1 is sent when block 0 is taken at 8, and is there at 14.
TEST(RankSimulation, ASlowLinkLimits) {
  StageTimes times = step_of(1);
  times.block_bytes = 10;
  const RankSimulation s = simulate_ranks(stages({2, 2}), {2, 4}, times, {2, 1});
  expect_seconds(s, 11, 17);
  expect_block_s(s, 6);
  EXPECT_EQ(s.limit.text(), "the link from rank 0 to rank 1");
  times.block_bytes = 0;
  times.finished_bytes = 10;
  EXPECT_EQ(simulate_ranks(stages({2, 2}), {2, 4}, times, {2, 1}).limit.text(), "the link from rank 1 to rank 0");
}

// 40 heads on three ranks are 14, 13 and 13; ten tokens 4, 3 and 3. The first computes 1 + 4 + 14 s. It sends
// 0.75 * 0.4 * 0.65 + 0.25 * 0.35 * 0.6 = 0.2475 of all bytes, and half a second passes in each of two exchanges and
// before the block is with all three.
TEST(RankSimulation, TheRankWithTheMostHeadsHoldsItsStage) {
  StageTimes times;
  times.heads = 40;
  times.tokens = 10;
  times.step.whole_s = 1;
  times.step.by_tokens_s = 10;
  times.step.by_heads_s = 40;
  times.step.exchanges = 2;
  times.step.exchange_bytes = 100;
  const Link link{1, 0.5};
  RankSimulation s = simulate_ranks(stages({1}, false, 3), {1, 4}, times, link);
  expect_seconds(s, 45.25, 45.25);
  EXPECT_NEAR(s.ranks[0].sampling_s, 19, 1e-9);
  EXPECT_NEAR(s.ranks[1].sampling_s, 17, 1e-9);
  EXPECT_NEAR(s.ranks[2].exchange_s, 1 + 20.875 + 0.5, 1e-9);
  EXPECT_GT(s.ranks[2].waiting_share, s.ranks[0].waiting_share);
  EXPECT_EQ(s.limit.text(), "rank 0: exchange of heads");
  times.step.weights_s = 30;  // the weights are read by each
  times.step.keys_values_s = 40;
  s = simulate_ranks(stages({1}, false, 3), {1, 4}, times, link);
  EXPECT_NEAR(s.ranks[0].sampling_s, 44, 1e-9);
  EXPECT_NEAR(s.ranks[1].sampling_s, 43, 1e-9);
}

// No placement is faster than what limits it says, and every one ends.
TEST(RankSimulation, NothingIsFasterThanItsLimit) {
  for (double decode_s : {0.0, 0.3, 1.0, 2.5}) {
    for (double message_s : {0.0, 0.7, 3.0}) {
      for (bool beside : {false, true}) {
        for (const Placement& p : {stages({4}), stages({1, 3}), stages({3, 1}), stages({1, 1, 1, 1}),
                                   stages({2, 2}, true), stages({1, 3}, true, 2), stages({4}, false, 4)}) {
          StageTimes times = step_of(1);
          times.heads = 4;
          times.tokens = 4;
          times.decode_s = decode_s;
          times.decode_beside = beside;
          times.block_bytes = times.finished_bytes = message_s;
          const RankSimulation s = simulate_ranks(p, {40, 4}, times, {1, 0});
          double most = 0;
          for (const RankLoad& rank : s.ranks) most = std::max(most, rank.seconds());
          EXPECT_GE(double(kBlockFrames) / s.steady_frames_per_s, most - 1e-6);
          EXPECT_GE(s.seconds, 40 * most - 1e-6);
        }
      }
    }
  }
}

}  // namespace
}  // namespace liveavatar
