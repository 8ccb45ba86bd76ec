// What clients send, right and wrong.
#include <gtest/gtest.h>

#include "serve/access.h"
#include "serve/base64.h"
#include "serve/exposure.h"
#include "serve/http/message.h"
#include "serve/live_events.h"
#include "serve/multipart.h"
#include "serve/small_json.h"
#include "serve/video_fields.h"
#include "serve/video_streams.h"

namespace liveavatar::serve {
namespace {

TEST(Base64, DecodesEachLengthAndSkipsWhatIsBeforeAndBetween) {
  EXPECT_EQ(base64_decoded(""), "");
  EXPECT_EQ(base64_decoded("Zg=="), "f");
  EXPECT_EQ(base64_decoded("Zg"), "f");
  EXPECT_EQ(base64_decoded("Zm8="), "fo");
  EXPECT_EQ(base64_decoded("Zm9v"), "foo");
  EXPECT_EQ(base64_decoded("Zm9v\nYmFy"), "foobar");
  EXPECT_EQ(base64_decoded("data:image/png;base64,/+8="), "\xff\xef");
}

TEST(Base64, RefusesWhatIsNone) {
  for (const char* text : {"Z", "Zm9vY", "Zg=", "Zg===", "Z===", "Zg==Zg==", "Zm-v", "http://x/y.png", "data:,x"})
    EXPECT_FALSE(base64_decoded(text).has_value()) << text;
}

constexpr const char* kType = "multipart/form-data; boundary=xYz";

TEST(Form, HasItsPartsWhateverIsInThem) {
  const std::string binary("\r\n--xY\r\n\0--", 11);
  const std::string body =
      "--xYz\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a;b.png\"\r\n"
      "Content-Type: image/png\r\n\r\n" +
      binary +
      "\r\n--xYz\r\n"
      "content-disposition:form-data; name=prompt\r\n\r\n\r\n--xYz--\r\n";
  const auto parts = parse_form(kType, body);
  ASSERT_TRUE(parts.ok()) << parts.status().message();
  ASSERT_EQ(parts->size(), 2u);
  EXPECT_EQ(parts->at(0).name, "image");
  EXPECT_TRUE(parts->at(0).is_file);
  EXPECT_EQ(parts->at(0).bytes, binary);
  EXPECT_EQ(parts->at(1).name, "prompt");
  EXPECT_FALSE(parts->at(1).is_file);
  EXPECT_EQ(parts->at(1).bytes, "");
}

TEST(Form, TakesAFileNameForNoName) {
  const auto parts =
      parse_form(kType, "--xYz\r\nContent-Disposition: form-data; filename=\"x\"\r\n\r\nq\r\n--xYz--\r\n");
  EXPECT_FALSE(parts.ok());
}

TEST(Form, IsRefusedAtEveryCut) {
  const std::string whole = "--xYz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nvalue\r\n--xYz--";
  ASSERT_TRUE(parse_form(kType, whole).ok());
  for (size_t end = 0; end < whole.size(); ++end) {
    const auto parts = parse_form(kType, whole.substr(0, end));
    EXPECT_FALSE(parts.ok()) << end;
  }
}

TEST(Form, NeedsABoundaryAndHasALimitOfParts) {
  for (const char* type :
       {"multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"x"})
    EXPECT_FALSE(parse_form(type, "--\r\n").ok()) << type;
  std::string body;
  for (int i = 0; i < 65; ++i) body += "--xYz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n";
  EXPECT_FALSE(parse_form(kType, body + "--xYz--\r\n").ok());
}

TEST(VideoFields, AreReadFromBothKindsOfBody) {
  const auto json = parse_video_inputs("application/json; charset=utf-8",
                                       R"({"image":"Zg==","audio":"Zm8=","size":"64*64","seed":7,"sample_shift":2.5})");
  ASSERT_TRUE(json.ok()) << json.status().message();
  EXPECT_EQ(json->image, "f");
  EXPECT_EQ(json->audio, "fo");
  const auto request = video_request(*json);
  ASSERT_TRUE(request.ok()) << request.status().message();
  EXPECT_EQ(request->size, "64*64");
  EXPECT_EQ(request->seed, 7u);
  EXPECT_EQ(request->sample_shift, 2.5);
  const auto form =
      parse_video_inputs(kType, "--xYz\r\nContent-Disposition: form-data; name=\"seed\"\r\n\r\n7\r\n--xYz--");
  ASSERT_TRUE(form.ok());
  EXPECT_EQ(video_request(*form)->seed, 7u);
}

TEST(VideoFields, AreRefusedByName) {
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"seed", "1.5"},
                                                                                    {"seed", ""},
                                                                                    {"seed", "9007199254740993"},
                                                                                    {"sample_steps", "0"},
                                                                                    {"sample_steps", "1001"},
                                                                                    {"sample_shift", "nan"},
                                                                                    {"fit", "round"},
                                                                                    {"sample_solver", "best"},
                                                                                    {"audio_path", "/etc/passwd"},
                                                                                    {"prompt", "\xff"}}) {
    VideoInputs inputs;
    inputs.texts[name] = value;
    const auto request = video_request(inputs);
    EXPECT_FALSE(request.ok()) << name << " " << value;
    EXPECT_NE(request.status().message().find(name), std::string::npos) << request.status().message();
  }
}

TEST(VideoFields, HaveInJsonTheTypesThatAreDescribed) {
  auto read = [](const std::string& field) { return parse_video_inputs("application/json", "{" + field + "}"); };
  for (const char* right : {R"("seed":7)", R"("seed":7.0)", R"("sample_shift":2)", R"("sample_shift":2.5)"}) {
    const auto inputs = read(right);
    ASSERT_TRUE(inputs.ok()) << inputs.status().message();
    EXPECT_TRUE(video_request(*inputs).ok()) << right;
  }
  for (const char* wrong : {R"("seed":"7")", R"("seed":null)", R"("seed":true)", R"("seed":[7])", R"("prompt":5)",
                            R"("portrait":5)", R"("model":{})", R"("fit":1)", R"("sample_shift":"2")"}) {
    const auto inputs = read(wrong);
    ASSERT_FALSE(inputs.ok()) << wrong;
    EXPECT_NE(inputs.status().message().find("; give a "), std::string::npos) << inputs.status().message();
  }
  EXPECT_NE(read(R"("sneed":7)").status().message().find("sneed is not known"), std::string::npos);
  EXPECT_FALSE(video_request(*read(R"("seed":7.5)")).ok());
  EXPECT_FALSE(video_request(*read(R"("seed":1e300)")).ok());
}

TEST(SmallJson, IsRefusedWhereItIsDeepHoweverLongItIs) {
  auto message_of = [](const std::string& text) {
    const auto json = parse_small_json(text, "the body");
    EXPECT_FALSE(json.ok());
    return json.status().message();
  };
  EXPECT_NE(message_of(std::string(60 << 20, '[')).find("more than 4096 values"), std::string::npos);
  std::string objects;
  for (int i = 0; i < 1000; ++i) objects += "{\"a\":";
  for (const std::string& text : {std::string(4000, '['), std::string(65, '[') + std::string(65, ']'), objects})
    EXPECT_NE(message_of(text).find("nested deeper than 64"), std::string::npos);
  EXPECT_TRUE(parse_small_json(std::string(64, '[') + std::string(64, ']'), "the body").ok());
}

TEST(SmallJson, DoesNotSpeakOfFilesToThoseWhoSentAText) {
  for (const char* text : {"{", "[", R"({"type":5})", R"({"type":"start","portrait":"me","seed":"x"})"}) {
    auto event = parse_live_event(text);
    const Status status = event.ok() ? parse_live_start(event->body).status() : event.status();
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << text;
    EXPECT_EQ(status.message().find("file"), std::string::npos) << status.message();
  }
}

TEST(Range, IsReadAsTheStandardSays) {
  auto expect = [](const char* header, ByteRange::Kind kind, uint64_t first = 0, uint64_t last = 0) {
    const ByteRange range = parse_range(header, 100);
    EXPECT_EQ(range.kind, kind) << header;
    if (kind != ByteRange::Kind::kPart) return;
    EXPECT_EQ(range.first, first) << header;
    EXPECT_EQ(range.last, last) << header;
  };
  using Kind = ByteRange::Kind;
  expect("bytes=0-0", Kind::kPart, 0, 0);
  expect("bytes=5-9", Kind::kPart, 5, 9);
  expect("bytes=5-", Kind::kPart, 5, 99);
  expect("bytes=90-1000", Kind::kPart, 90, 99);
  expect("bytes=-10", Kind::kPart, 90, 99);
  expect("bytes=-1000", Kind::kPart, 0, 99);
  expect("bytes=100-", Kind::kUnsatisfiable);
  expect("bytes=-0", Kind::kUnsatisfiable);
  for (const char* other :
       {"", "bytes=", "bytes=-", "bytes=9-5", "bytes=a-b", "bytes=1-2,4-5", "lines=1-2", "bytes=99999999999999999999-"})
    expect(other, Kind::kAll);
}

TEST(Path, IsDecodedOrRefused) {
  EXPECT_EQ(*http::percent_decoded("/a%2Fb%20"), "/a/b ");
  EXPECT_EQ(http::query_value("a=1&b=a+b%2Bc", "b"), "a b+c");
  for (const char* text : {"%", "%2", "%zz", "a%00b"}) EXPECT_FALSE(http::percent_decoded(text).ok()) << text;
}

http::Request request_with(std::vector<std::pair<std::string, std::string>> headers) {
  http::Request request;
  request.headers = std::move(headers);
  return request;
}

TEST(Access, NeedsTheWholeKey) {
  for (const char* given : {"", "k", "ke", "keyy", "kex", "keykey"}) EXPECT_FALSE(same_key(given, "key")) << given;
  EXPECT_TRUE(same_key("key", "key"));
  const Access access("key", {});
  EXPECT_TRUE(access.has_key(request_with({{"authorization", "bearer key"}})));
  EXPECT_FALSE(access.has_key(request_with({{"authorization", "Basic key"}})));
  EXPECT_FALSE(access.has_key(request_with({})));
  EXPECT_TRUE(access.has_key(request_with({{"sec-websocket-protocol", "liveavatar.v1 ,bearer.key"}})));
  EXPECT_FALSE(access.has_key(request_with({{"sec-websocket-protocol", "bearer.ke"}})));
  EXPECT_TRUE(Access("", {}).has_key(request_with({})));
}

TEST(Access, TakesNamesOfOthersForThisMachineOnlyWithAKey) {
  const Access access("", {}, {"Here.example"});
  auto allowed = [&](const char* host) { return access.is_host_allowed(request_with({{"host", host}})); };
  for (const char* host : {"127.0.0.1", "127.0.0.1:8080", "192.168.1.5:1", "[::1]:8080", "[::1]", "localhost:8080",
                           "LocalHost", "here.example:8080", "HERE.example"})
    EXPECT_TRUE(allowed(host)) << host;
  for (const char* host : {"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example",
                           "[evil.example]:8080", "x.here.example"})
    EXPECT_FALSE(allowed(host)) << host;
  EXPECT_TRUE(access.is_host_allowed(request_with({})));
  EXPECT_TRUE(Access("key", {}).is_host_allowed(request_with({{"host", "evil.example"}})));
}

TEST(Exposure, IsWhatTheAddressSays) {
  http::ServerOptions options;
  for (const char* host : {"127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "nowhere"}) {
    options.host = host;
    EXPECT_TRUE(is_local_only(options)) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "192.168.1.5", "fe80::1%eth0", "::ffff:10.0.0.1"}) {
    options.host = host;
    EXPECT_FALSE(is_local_only(options)) << host;
  }
}

TEST(Access, LetsInItsOwnPageAndThoseThatAreListed) {
  const Access access("", {"https://friend.example"});
  auto allowed = [&](const char* origin) {
    return access.is_origin_allowed(request_with({{"host", "here:8080"}, {"origin", origin}}));
  };
  EXPECT_TRUE(access.is_origin_allowed(request_with({{"host", "here:8080"}})));
  EXPECT_TRUE(allowed("http://here:8080"));
  EXPECT_TRUE(allowed("https://friend.example"));
  for (const char* origin : {"http://here", "http://here:80800", "null", "https://friend.example.com", "here:8080"})
    EXPECT_FALSE(allowed(origin)) << origin;
}

}  // namespace
}  // namespace liveavatar::serve
