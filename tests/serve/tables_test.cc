// Routes and their description, metrics, the log, and who has the device.
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "core/json.h"
#include "serve/access.h"
#include "serve/access_log.h"
#include "serve/device_turn.h"
#include "serve/errors.h"
#include "serve/metrics.h"
#include "serve/openapi.h"
#include "serve/portraits.h"
#include "serve/routes.h"
#include "serve/task_queue.h"
#include "serve/video_fields.h"
#include "serve/video_jobs.h"
#include "serve/video_streams.h"

namespace liveavatar::serve {
namespace {

TEST(Routes, AreFoundWithTheirParameters) {
  const RouteMatch match = match_route("GET", "/v1/videos/video_1/content");
  ASSERT_NE(match.route, nullptr);
  EXPECT_EQ(match.route->id, RouteId::kVideoContent);
  EXPECT_EQ(match.parameters.at("id"), "video_1");
  EXPECT_EQ(match_route("HEAD", "/health").route->id, RouteId::kHealth);
  EXPECT_EQ(match_route("GET", "/").route->id, RouteId::kPage);
}

TEST(Routes, TellAnUnknownPathFromAMethodThatIsNotTaken) {
  for (const char* path : {"/v1", "/v1/videos/", "/v1/videos//content", "/v1/videos/a/b", "/v1/videos/a/content/", "",
                           "//", "/healthy", "/v1/portraits/a/b"})
    EXPECT_EQ(match_route("GET", path).allowed, "") << path;
  const RouteMatch match = match_route("PATCH", "/v1/videos/a");
  EXPECT_EQ(match.route, nullptr);
  EXPECT_EQ(match.allowed, "GET, DELETE");
}

TEST(Routes, AreAllDescribedAndOnlyTheyAre) {
  const nlohmann::json described = nlohmann::json::parse(openapi_json());
  size_t operations = 0;
  for (const auto& [path, methods] : described["paths"].items()) operations += methods.size();
  EXPECT_EQ(operations, routes().size());
  for (const Route& route : routes()) {
    std::string method = route.method;
    for (char& c : method) c = static_cast<char>(std::tolower(c));
    const nlohmann::json& operation = described["paths"][route.path][method];
    EXPECT_EQ(operation["summary"], route.summary);
    EXPECT_EQ(operation["responses"].contains("401"), !route.is_open) << route.path;
    for (const char* status : {"400", "421", "431", "503"})  // whatever is asked for
      EXPECT_TRUE(operation["responses"].contains(status)) << route.path << " " << status;
    for (const RouteAnswer& answer : route.answers) {
      ASSERT_TRUE(operation["responses"].contains(std::to_string(answer.status))) << route.path;
      if (answer.schema == nullptr) continue;
      EXPECT_TRUE(described["components"]["schemas"].contains(answer.schema)) << answer.schema;
    }
  }
  const nlohmann::json& body = described["paths"]["/v1/videos"]["post"]["requestBody"]["content"];
  for (const VideoField& field : video_fields())
    for (const char* type : {"multipart/form-data", "application/json"})
      EXPECT_TRUE(body[type]["schema"]["properties"].contains(field.name)) << field.name;
}

std::string line_of(const std::string& text, const std::string& name) {
  const size_t at = text.find("\n" + name + " ");
  if (at == std::string::npos) return "";
  return text.substr(at + name.size() + 2, text.find('\n', at + 1) - at - name.size() - 2);
}

TEST(Metrics, CountStagesInBucketsThatAddUp) {
  Metrics metrics;
  for (const double seconds : {0.001, 0.02, 0.02, 3.0, 100.0}) metrics.stage(Metrics::Stage::kSample, seconds);
  metrics.request(200);
  metrics.frames(Metrics::Frames::kLive, 4);
  const std::string text = metrics.text({{"a_gauge", "help", "k=\"1\"", 2.5}, {"a_gauge", "help", "k=\"2\"", 3}});
  const std::string bucket = "liveavatar_stage_seconds_bucket{stage=\"sample\",le=";
  EXPECT_EQ(line_of(text, bucket + "\"0.005\"}"), "1");
  EXPECT_EQ(line_of(text, bucket + "\"0.025\"}"), "3");
  EXPECT_EQ(line_of(text, bucket + "\"5\"}"), "4");
  EXPECT_EQ(line_of(text, bucket + "\"+Inf\"}"), "5");
  EXPECT_EQ(line_of(text, "liveavatar_stage_seconds_count{stage=\"sample\"}"), "5");
  EXPECT_EQ(line_of(text, "liveavatar_frames_total{kind=\"live\"}"), "4");
  EXPECT_EQ(line_of(text, "a_gauge{k=\"2\"}"), "3");
  EXPECT_EQ(text.find("# TYPE a_gauge"), text.rfind("# TYPE a_gauge"));
}

TEST(DeviceTurn, IsOfOneJobOrSomeSessions) {
  DeviceTurn turn(2);
  EXPECT_EQ(turn.take_live(), DeviceTurn::Live::kTaken);
  EXPECT_EQ(turn.take_live(), DeviceTurn::Live::kTaken);
  EXPECT_EQ(turn.take_live(), DeviceTurn::Live::kFull);
  bool begun = false;
  std::thread job([&] { begun = turn.take_job(); });
  turn.give_back_live();
  EXPECT_FALSE(turn.job_runs());
  turn.give_back_live();
  job.join();
  EXPECT_TRUE(begun);
  EXPECT_EQ(turn.take_live(), DeviceTurn::Live::kJobRuns);
  turn.give_back_job();
  EXPECT_EQ(turn.take_live(), DeviceTurn::Live::kTaken);
  std::thread waits([&] { begun = turn.take_job(); });
  turn.close();
  waits.join();
  EXPECT_FALSE(begun);
}

TEST(TaskQueue, WorksInOrderAndToTheEnd) {
  std::vector<int> done;
  {
    TaskQueue queue;
    for (int i = 0; i < 100; ++i) queue.add([&, i] { done.push_back(i); });
    queue.add([] { throw std::runtime_error("a task"); });
    queue.add([&] { done.push_back(100); });
  }
  ASSERT_EQ(done.size(), 101u);
  for (int i = 0; i <= 100; ++i) EXPECT_EQ(done[size_t(i)], i);
}

struct Released {
  int times = 0;
  void release() { ++times; }
};

// As a session has it.
struct Session {
  void release() {}
  LastTask<Session> last{&Session::release};
};

TEST(LastTask, AnOwnerOfItsOwnLastTaskEndsWithIt) {
  auto session = std::make_shared<Session>();
  const std::weak_ptr<Session> seen = session;
  {
    TaskQueue queue;
    session->last.add_to(queue, session);
    session.reset();
  }
  EXPECT_TRUE(seen.expired());
}

TEST(LastTask, HoldsItsOwnerOnlyFromItsAdditionOn) {
  auto owner = std::make_shared<Released>();
  LastTask<Released> last(&Released::release);
  EXPECT_EQ(owner.use_count(), 1);
  {
    TaskQueue queue;
    last.add_to(queue, owner);
    last.add_to(queue, owner);  // nothing is left of it
  }
  EXPECT_EQ(owner->times, 1);
}

TEST(Access, TakesOriginsAndNamesAsBrowsersSendThem) {
  for (const char* good : {"*", "https://example.org", "http://localhost:3000", "http://[::1]:8080"})
    EXPECT_TRUE(check_origin(good).ok()) << good;
  for (const char* bad : {"", "example.org", "https://", "https://example.org/", "https://example.org/app",
                          "https://Example.org", "https://example.org:443", "http://a:80", "null", "ftp://a",
                          "https://user:secret@a", "https://*.example.org"}) {
    const Status refused = check_origin(bad);
    EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument) << bad;
    EXPECT_EQ(refused.message().find("secret"), std::string::npos) << refused.message();
  }
  for (const char* good : {"example.org", "Studio-2", "a_b"}) EXPECT_TRUE(check_host_name(good).ok()) << good;
  for (const char* bad : {"", "https://example.org", "example.org:8080", "example.org/", "a b", "*"})
    EXPECT_EQ(check_host_name(bad).code(), ErrorCode::kInvalidArgument) << bad;
}

TEST(Jobs, SayWhatTheyWaitFor) {
  VideoView view;
  auto waits_for = [&] { return nlohmann::json::parse(video_json(view)).value("waits_for", "nothing"); };
  EXPECT_EQ(waits_for(), "nothing");
  view.queue_position = 2;
  EXPECT_EQ(waits_for(), "jobs");
  view.live_sessions = 1;
  EXPECT_EQ(waits_for(), "sessions");
  view.state = VideoState::kRunning;
  EXPECT_EQ(waits_for(), "nothing");
}

TEST(FileStream, SaysWhereAFileIsShorterThanItWas) {
  auto folder = WorkFolder::create("");
  ASSERT_TRUE(folder.ok());
  auto file = (*folder)->write("bytes");
  ASSERT_TRUE(file.ok());
  using State = http::BodyStream::State;
  std::string got;
  EXPECT_EQ((*open_file_stream(*file, 1, 4))->next(got), State::kEnd);
  EXPECT_EQ(got, "ytes");
  auto stream = open_file_stream(*file, 0, 10);
  EXPECT_EQ((*stream)->next(got), State::kMore);
  EXPECT_THROW((*stream)->next(got), std::exception);
}

TEST(WorkFolder, LeavesNothing) {
  auto folder = WorkFolder::create("");
  ASSERT_TRUE(folder.ok());
  auto file = (*folder)->write("bytes");
  ASSERT_TRUE(file.ok());
  const std::filesystem::path path = (*file)->path();
  EXPECT_EQ(std::filesystem::file_size(path), 5u);
  auto kept = (*folder)->write("others");
  file = Status(ErrorCode::kNotFound, "");
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(std::filesystem::exists((*kept)->path()));
  folder = Status(ErrorCode::kNotFound, "");
  EXPECT_FALSE(std::filesystem::exists(path.parent_path()));
}

TEST(Portraits, HaveNamesThatAreNoPaths) {
  for (const char* name : {"", "..", "a/b", "a.png", "a b", "\xc3\xa4"}) EXPECT_FALSE(Portraits::is_name(name)) << name;
  EXPECT_FALSE(Portraits::is_name(std::string(65, 'a')));
  EXPECT_TRUE(Portraits::is_name(std::string(64, 'a')));
  EXPECT_TRUE(Portraits::is_name("Me-2_x"));
}

TEST(AccessLog, IsALineOfJsonWhateverAClientSends) {
  const std::string line = access_line({"::1", "GET", "/a\n\"\xff", 404, 1, 2, 0.0015}, 1796042113.25);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const nlohmann::json json = nlohmann::json::parse(line);
  EXPECT_EQ(json["time"], "2026-11-30T12:35:13.250Z");
  EXPECT_EQ(json["status"], 404);
  EXPECT_EQ(json["ms"], 1.5);
}

TEST(Errors, HaveTheirStatusAndHideOurFiles) {
  EXPECT_EQ(error_response(out_of_memory("m")).status, 503);
  EXPECT_EQ(error_response(corrupt("m")).status, 400);
  EXPECT_EQ(error_response(io_error("m")).status, 500);
  EXPECT_EQ(without_path("/w/1: broken; see /w/1", "/w/1", "image"), "image: broken; see image");
}

}  // namespace
}  // namespace liveavatar::serve
