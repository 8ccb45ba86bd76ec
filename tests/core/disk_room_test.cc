#include "core/disk_room.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <thread>

namespace liveavatar {
namespace {

// Of a wait of some seconds at most.
struct Heard {
  double most_s = 10;
  int full = 0, ended = 0;
  bool has_room = false;

  DiskRoom::Calls calls() {
    return {[this](const DiskRoom::Full&) {
              ++full;
              return most_s;
            },
            [this](bool room) {
              ++ended;
              has_room = room;
            }};
  }
};

TEST(DiskRoom, ACallThatFindsRoomLaterSucceedsAndIsToldOnce) {
  Heard heard;
  DiskRoom room(heard.calls(), {});
  int calls = 0;
  EXPECT_EQ(room.retry("a", 1, [&] { return ++calls < 3 ? EDQUOT : 0; }), 0);
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(heard.full, 1);
  EXPECT_EQ(heard.ended, 1);
  EXPECT_TRUE(heard.has_room);
}

TEST(DiskRoom, OtherErrorsAreNotWaitedFor) {
  Heard heard;
  DiskRoom room(heard.calls(), {});
  EXPECT_EQ(room.retry("a", 1, [] { return EIO; }), EIO);
  EXPECT_EQ(heard.full, 0);
  int calls = 0;  // also behind a wait
  EXPECT_EQ(room.retry("a", 1, [&] { return ++calls < 2 ? ENOSPC : EIO; }), EIO);
  EXPECT_FALSE(heard.has_room);
}

TEST(DiskRoom, AfterAWaitInVainNothingWaits) {
  Heard heard;
  heard.most_s = 0.1;
  DiskRoom room(heard.calls(), {});
  EXPECT_EQ(room.retry("a", 1, [] { return ENOSPC; }), ENOSPC);
  EXPECT_EQ(room.retry("b", 1, [] { return ENOSPC; }), ENOSPC);
  EXPECT_EQ(heard.full, 1);
  EXPECT_FALSE(room.was_stopped());
}

TEST(DiskRoom, AStopEndsTheWaitAndNoneBeginsAfterIt) {
  Heard heard;
  heard.most_s = 1000;
  std::stop_source source;
  DiskRoom room(heard.calls(), source.get_token());
  std::thread stopper([&] { source.request_stop(); });
  EXPECT_EQ(room.retry("a", 1, [] { return ENOSPC; }), ENOSPC);
  stopper.join();
  EXPECT_TRUE(room.was_stopped());
  heard.full = 0;
  EXPECT_EQ(room.retry("a", 1, [] { return ENOSPC; }), ENOSPC);
  EXPECT_EQ(heard.full, 0);
}

}  // namespace
}  // namespace liveavatar
