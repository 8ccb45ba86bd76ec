// Connections: a look-up of a name that hangs ends a try, and is not begun a second time. FFmpeg's look-ups come here.
#include "media/connection.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <netdb.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

namespace {

constexpr const char* kSlowName = "slow.test";
std::atomic<bool> hangs = false;
std::atomic<int> begun = 0, running = 0;

}  // namespace

extern "C" __attribute__((visibility("default"))) int getaddrinfo(const char* name, const char* service,
                                                                  const addrinfo* hints, addrinfo** found) {
  using LookUp = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
  if (name == nullptr || std::strcmp(name, kSlowName) != 0)
    return reinterpret_cast<LookUp>(::dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, found);
  ++begun;
  ++running;
  while (hangs) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  --running;
  return EAI_NONAME;
}

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

TEST(Connector, BeginsNoTryWhileALookUpHangs) {
  hangs = true;
  const std::string url = std::string("tcp://") + kSlowName + ":1";
  Connector connector({StreamAddress::Kind::kSrt, url, "the server"});
  for (int i = 0; i < 3; ++i) {
    const auto begin = Clock::now();
    const Status late = connector.open(0.2, {}).status();
    EXPECT_NE(late.message().find("the server: does not answer within 0.2 s"), std::string::npos) << late.message();
    EXPECT_LT(Clock::now() - begin, milliseconds(1500));
  }
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(connector.open(10, stop.get_token()).status().code(), ErrorCode::kCancelled);
  EXPECT_EQ(begun, 1);

  std::thread ends([] {
    std::this_thread::sleep_for(milliseconds(100));
    hangs = false;
  });
  const Status unknown = connector.open(10, {}).status();  // waits for the first, then tries
  ends.join();
  EXPECT_NE(unknown.message().find("the server: cannot be reached"), std::string::npos) << unknown.message();
  EXPECT_EQ(begun, 2);
  EXPECT_EQ(running, 0);
}

}  // namespace
}  // namespace liveavatar
