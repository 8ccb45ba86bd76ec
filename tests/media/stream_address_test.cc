// Addresses of streams: what is one, and that no secret of it is ever shown.
#include "media/stream_address.h"

#include <gtest/gtest.h>

namespace liveavatar {
namespace {

using Kind = StreamAddress::Kind;

TEST(StreamAddress, TellsAddressesFromFiles) {
  for (const char* stream : {"-", "rtmp://a/b/c", "RTMPS://a/b/c", "srt://a:1", "whip+https://a/b", "x://"})
    EXPECT_TRUE(is_stream(stream)) << stream;
  for (const char* file : {"a.mp4", "-x.mp4", "a:b.mp4", "://a.mp4", "a b://c.mp4", "./x", "", "--"})
    EXPECT_FALSE(is_stream(file)) << file;
}

TEST(StreamAddress, ShowsServerAndApplicationAndNoSecret) {
  struct Case {
    const char *output, *shown;
    Kind kind;
  };
  for (const Case& c : {Case{"rtmp://h/live/secret", "rtmp://h/live/***", Kind::kRtmp},
                        {"rtmps://h:443/app/secret/secret?a=secret", "rtmps://h:443/app/***", Kind::kRtmp},
                        {"rtmp://secret:secret@h:1/app/secret", "rtmp://h:1/app/***", Kind::kRtmp},
                        {"rtmp://h/app/secret token=secret", "rtmp://h/app/***", Kind::kRtmp},
                        {"RTMP://h/app/secret", "rtmp://h/app/***", Kind::kRtmp},
                        {"srt://h:9000?passphrase=secret&streamid=secret", "srt://h:9000", Kind::kSrt},
                        {"srt://:9000?mode=listener", "srt://:9000", Kind::kSrt},
                        {"srt://[::1]:9000/secret", "srt://[::1]:9000/***", Kind::kSrt},
                        {"whip+https://secret:secret@h/secret/secret?secret", "whip+https://h/***", Kind::kWhip},
                        {"WHIP+HTTP://h:8080/secret", "whip+http://h:8080/***", Kind::kWhip},
                        {"-", "standard output", Kind::kStandardOutput}}) {
    const auto address = parse_stream_address(c.output);
    ASSERT_TRUE(address.ok()) << c.output << ": " << address.status().message();
    EXPECT_EQ(address->shown, c.shown);
    EXPECT_EQ(address->kind, c.kind) << c.output;
  }
  EXPECT_EQ(parse_stream_address("RTMP://h/App/Key")->url, "rtmp://h/App/Key");
  EXPECT_EQ(parse_stream_address("WHIP+HTTPS://h/Key")->url, "https://h/Key");
}

TEST(StreamAddress, RefusesInALineWithoutSecrets) {
  struct Case {
    const char *output, *says;
  };
  for (const Case& c : {Case{"rtmp://h/secret", "names no stream"},
                        {"rtmp://h/app/", "names no stream"},
                        {"rtmp://secret@/app/secret", "names no server"},
                        {"rtmp:///app/secret", "names no server"},
                        {"srt://h?passphrase=secret", "names no port"},
                        {"srt://[::1]?passphrase=secret", "names no port"},
                        {"rtmp://user:secret/secret@h/app/secret", "write / as %2F"},
                        {"srt://user:secret?secret@h:9000", "write / as %2F"},
                        {"whip+https:///secret", "names no server"},
                        {"whip+http://user:secret/secret@h/", "write / as %2F"},
                        {"whip://h/secret", "whip://: no protocol"},
                        {"rtnp://h/app/secret", "rtnp://: no protocol"},
                        {"https://h/secret", "https://: no protocol"}}) {
    const Status status = parse_stream_address(c.output).status();
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << c.output;
    EXPECT_NE(status.message().find(c.says), std::string::npos) << status.message();
    EXPECT_EQ(status.message().find("secret"), std::string::npos) << status.message();
  }
}

TEST(StreamAddress, KeepsOtherTextsAsTheyAre) {
  EXPECT_EQ(without_secrets("/videos/a.mp4"), "/videos/a.mp4");
  EXPECT_EQ(without_secrets("a=b"), "a=b");
  EXPECT_EQ(without_secrets("://a"), "://a");
}

TEST(StreamAddress, HidesTheSecretsOfAnAddressAnywhereInAText) {
  struct Case {
    const char *text, *shown;
  };
  for (const Case& c : {Case{"foo://user:secret@h/secret?secret", "foo://h/***"},
                        {"--outptu=rtmp://h/app/secret", "--outptu=rtmp://h/app/***"},
                        {"studio=rtmp://secret@h/app/secret", "studio=rtmp://h/app/***"},
                        {"--psh=a=srt://h:1?passphrase=secret", "--psh=a=srt://h:1"},
                        {"bad value: rtmp://h/app/secret token=secret", "bad value: rtmp://h/app/***"},
                        {"rtmp://user:1/secret@h/app/secret", "rtmp://***"},
                        {"rtmp://user:secret#secret@h/app/secret", "rtmp://***"},
                        {"https://secret secret@h/secret", "https://***"},
                        {"srt://h:1?streamid=secret@secret", "srt://***"},
                        {"://rtmp://h/app/secret", "://rtmp://h/app/***"},
                        {"rtmp://h/app/secret rtmp://h/app/secret", "rtmp://h/app/***"}})
    EXPECT_EQ(without_secrets(c.text), c.shown);
}

}  // namespace
}  // namespace liveavatar
