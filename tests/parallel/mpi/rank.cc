// One rank of the tests under mpirun: mpi_rank cases|failure|work|bench [--wait_s S] [--file FILE].
//   cases    what every transport has to do (group_cases.h)
//   failure  one rank fails, and all others see it
//   work     exchanges without an end, as a video does; SIGUSR1 makes this rank hang. The lead takes a moment to finish
//            FILE when the work has ended
//   bench    how long messages take; without mpirun between threads
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "../group_cases.h"
#include "parallel/local_group.h"
#include "parallel/open_mpi_group.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point then) { return std::chrono::duration<double>(Clock::now() - then).count(); }

Group* g_group = nullptr;
volatile sig_atomic_t g_stop = 0, g_hang = 0;

// Every rank runs the same tests in the same order.
TEST(MpiGroup, EveryRankReachesEveryOther) { everyone_to_everyone(*g_group); }
TEST(MpiGroup, MessagesOfAllSizesArriveInOrder) { around_the_ring(*g_group); }
TEST(MpiGroup, AMessageIsTakenWhenItIsReceived) { arrived_and_taken(*g_group); }
TEST(MpiGroup, TextsAndBroadcasts) { texts_and_broadcasts(*g_group); }
TEST(MpiGroup, APartOfAGroupIsAGroup) { part_of_a_group(*g_group); }

TEST(MpiGroup, ALargeMessageArrivesWhileItsSenderDoesOtherThings) {
  std::vector<int> values(8 << 20);
  if (g_group->rank() == 0) {
    std::iota(values.begin(), values.end(), 0);
    ASSERT_TRUE(g_group->start_send(1, Tag::kBlock, bytes_of(values)).ok());
    std::vector<int> taken(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    EXPECT_TRUE(*g_group->arrived(1, Tag::kReport)) << "the message came only when its sender waited for it";
    ASSERT_TRUE(g_group->receive(1, Tag::kReport, room_in(taken)).ok());
    ASSERT_TRUE(g_group->finish_send(1, Tag::kBlock).ok());
  } else if (g_group->rank() == 1) {
    ASSERT_TRUE(g_group->receive(0, Tag::kBlock, room_in(values)).ok());
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<int>(i));
    ASSERT_TRUE(g_group->send(0, Tag::kReport, bytes_of({1})).ok());
  }
}

TEST(MpiGroup, AMessageThatIsThereHasArrived) {
  std::vector<int> value(1);
  if (g_group->rank() == 0) {
    EXPECT_FALSE(*g_group->arrived(1, Tag::kFinished));
    ASSERT_TRUE(g_group->send(1, Tag::kJob, bytes_of({1})).ok());
    const auto began = Clock::now();
    while (!*g_group->arrived(1, Tag::kFinished) && seconds_since(began) < 10) usleep(1000);
    EXPECT_TRUE(*g_group->arrived(1, Tag::kFinished));
    ASSERT_TRUE(g_group->receive(1, Tag::kFinished, room_in(value)).ok());
    EXPECT_FALSE(*g_group->arrived(1, Tag::kFinished));
  } else if (g_group->rank() == 1) {
    ASSERT_TRUE(g_group->receive(0, Tag::kJob, room_in(value)).ok());
    ASSERT_TRUE(g_group->send(0, Tag::kFinished, bytes_of({2})).ok());
  }
}

TEST(MpiGroup, EveryRankIsKnown) {
  EXPECT_EQ(g_group->place(g_group->size() - 1).device, "cpu:" + std::to_string(g_group->size() - 1));
  EXPECT_FALSE(g_group->place(0).host.empty());
  EXPECT_TRUE(g_group->roll_call().ok());
}

Status exchange(Group& group, std::vector<int>& out, std::vector<int>& in) {
  const int next = (group.rank() + 1) % group.size(), before = (group.rank() + group.size() - 1) % group.size();
  const Status started = group.start_send(next, Tag::kBlock, bytes_of(out));
  const Status received = started.ok() ? group.receive(before, Tag::kBlock, room_in(in)) : started;
  const Status finished = group.finish_send(next, Tag::kBlock);
  return received.ok() ? finished : received;
}

// As the program does it: the file first, then the line, then the end.
int work(Group& group, const std::string& file) {
  std::fprintf(stderr, "rank %d has pid %d\n", group.rank(), getpid());
  std::vector<int> out(50000, group.rank()), in(out.size());
  Status status;
  while (status.ok() && g_stop == 0) {
    status = exchange(group, out, in);
    while (g_hang != 0) {
    }
    usleep(1000);
  }
  if (status.ok()) status = group.roll_call();
  if (status.ok()) status = cancelled("stopped");
  group.abort(status);
  if (group.rank() == 0 && !file.empty()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(600));  // also through SIGTERM
    std::ofstream(file) << "finished\n";
  }
  if (group.speaks()) std::fprintf(stderr, "rank %d says: %s\n", group.rank(), group.status().message().c_str());
  return 3;
}

void bench(Group& group) {
  if (group.rank() > 1) return;
  const int other = 1 - group.rank();
  std::vector<int> small(2), out(16384), in(out.size());
  auto ping = [&](int times) {
    const int first = group.rank() == 0 ? 0 : 1;
    for (int i = first; i < 2 * times + first; ++i) {
      const Status status = i % 2 == 0 ? group.send(other, Tag::kReport, bytes_of(small))
                                       : group.receive(other, Tag::kReport, room_in(small));
      EXPECT_TRUE(status.ok()) << status.message();
    }
  };
  ping(20);
  constexpr int kPings = 200, kExchanges = 1000;
  auto began = Clock::now();
  ping(kPings);
  const double latency_s = seconds_since(began) / (2 * kPings);
  began = Clock::now();
  for (int i = 0; i < kExchanges; ++i) {
    EXPECT_TRUE(group.start_send(other, Tag::kExchange, bytes_of(out)).ok());
    EXPECT_TRUE(group.receive(other, Tag::kExchange, room_in(in)).ok());
    EXPECT_TRUE(group.finish_send(other, Tag::kExchange).ok());
  }
  if (group.rank() == 0)
    std::printf("a small message: %.1f us; %d exchanges of 64 KiB: %.3f s\n", latency_s * 1e6, kExchanges,
                seconds_since(began));
}

int bench_threads() {
  auto groups = open_local_groups({"cpu", "cpu"});
  std::jthread second([&] { bench(*groups[1]); });
  bench(*groups[0]);
  return 0;
}

int run(Group& group, const std::string& what, const std::string& file) {
  if (what == "work") return work(group, file);
  if (what == "cases") return RUN_ALL_TESTS();
  if (what == "failure") {
    a_failure_ends_every_wait(group);
    const bool as_expected = !testing::Test::HasFailure();
    std::fprintf(stderr, "rank %d saw %s\n", group.rank(), as_expected ? "the failure" : "something else");
    group.speaks();
    return 3;
  }
  bench(group);
  return 0;
}

}  // namespace
}  // namespace liveavatar

int main(int argc, char** argv) {
  using namespace liveavatar;
  testing::InitGoogleTest(&argc, argv);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, [](int) { g_stop = 1; });
  signal(SIGUSR1, [](int) { g_hang = 1; });
  const std::string what = argc > 1 ? argv[1] : "";
  Group::Options options;
  std::string file;
  for (int i = 2; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--wait_s") == 0) options.wait_s = std::atof(argv[i + 1]);
    if (std::strcmp(argv[i], "--end_s") == 0) options.end_s = std::atof(argv[i + 1]);
    if (std::strcmp(argv[i], "--file") == 0) file = argv[i + 1];
  }
  if (what == "bench" && !started_by_mpi()) return bench_threads();
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  auto group = open_mpi_group(std::string("cpu:") + (rank != nullptr ? rank : "?"), options);
  if (!group.ok()) {
    std::fprintf(stderr, "mpi_rank: %s\n", group.status().message().c_str());
    return 2;
  }
  g_group = group->get();
  const int code = run(**group, what, file);
  std::fflush(nullptr);
  return (*group)->end(code);
}
