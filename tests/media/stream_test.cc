// Streams: what arrives, and that no wait is without an end. The server is a plain socket, the protocol MPEG-TS over
// TCP; the real protocols are in tests/cli/streams_test.py.
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "fixture.h"
#include "media/audio.h"
#include "media/connection.h"
#include "media/live_stream.h"
#include "media/video_writer.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Each connection is given to `serve`, with its number.
class TcpServer {
 public:
  explicit TcpServer(std::function<void(int connection, int number)> serve) : serve_(std::move(serve)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int small = 4096;
    ::setsockopt(listener_, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof(address);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), bytes), 0);
    EXPECT_EQ(::listen(listener_, 4), 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &bytes);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { accept_all(); });
  }
  ~TcpServer() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  int port() const { return port_; }

 private:
  void accept_all() {
    for (int number = 0;; ++number) {
      const int connection = ::accept(listener_, nullptr, nullptr);
      if (connection < 0) return;
      serve_(connection, number);
      ::close(connection);
    }
  }
  const std::function<void(int, int)> serve_;
  int listener_ = -1, port_ = 0;
  std::thread thread_;
};

// SRT's container; a name that FFmpeg resolves to TCP.
StreamAddress tcp(int port) {
  return {StreamAddress::Kind::kSrt, "tcp://127.0.0.1:" + std::to_string(port), "the server"};
}

std::shared_ptr<Connector> connector_to(const TcpServer& server) {
  return std::make_shared<Connector>(tcp(server.port()));
}

std::string read_to_end(int connection, size_t most = SIZE_MAX) {
  std::string all;
  char bytes[4096];
  while (all.size() < most) {
    const ssize_t got = ::read(connection, bytes, sizeof(bytes));
    if (got <= 0) break;
    all.append(bytes, static_cast<size_t>(got));
  }
  return all;
}

void wait_for(const std::atomic<bool>& flag) {
  while (!flag) std::this_thread::sleep_for(milliseconds(5));
}

struct Packets {
  int64_t count = 0, keys = 0;
  double begin_s = 1e9, end_s = 0;
};

Packets packets_in(const std::string& file, AVMediaType kind) {
  Packets packets;
  auto input = open_input(file, kind);
  EXPECT_TRUE(input.ok()) << input.status().message();
  if (!input.ok()) return packets;
  const double base = av_q2d(input->format->streams[input->stream]->time_base);
  while (av_read_frame(input->format.get(), input->packet.get()) >= 0) {
    const AVPacket& packet = *input->packet;
    if (packet.stream_index == input->stream) {
      ++packets.count;
      packets.keys += (packet.flags & AV_PKT_FLAG_KEY) != 0 ? 1 : 0;
      packets.begin_s = std::min(packets.begin_s, double(packet.pts) * base);
      packets.end_s = std::max(packets.end_s, double(packet.pts + packet.duration) * base);
    }
    av_packet_unref(input->packet.get());
  }
  return packets;
}

constexpr int kSide = 64;

std::vector<uint8_t> noise(int seed) {
  std::vector<uint8_t> rgb(kSide * kSide * 3);
  uint32_t state = static_cast<uint32_t>(seed) * 2654435761u + 1;
  for (uint8_t& value : rgb) value = static_cast<uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  return rgb;
}

class StreamTest : public MediaTest {
 protected:
  std::unique_ptr<AudioStream> voice() {
    auto audio = open_audio(write("v.wav", sine_wave({16000, 1, 16}, 16000 * 12, 300)));
    EXPECT_TRUE(audio.ok());
    return std::move(*audio);
  }
  static Status write_frames(VideoWriter& writer, int frames) {
    for (int i = 0; i < frames; ++i) LA_RETURN_IF_ERROR(writer.write_frame(noise(i).data()));
    return writer.finish();
  }
  Status write_to(StreamOutput& output, int frames) {
    LA_ASSIGN_OR_RETURN(auto writer, VideoWriter::open(output, {.width = kSide, .height = kSide}, voice()));
    return write_frames(*writer, frames);
  }
};

TEST_F(StreamTest, ArrivesAtItsPaceWithPictureAndSoundInStep) {
  std::string got;
  {
    TcpServer server([&](int connection, int) { got = read_to_end(connection); });
    auto output = StreamOutput::connect(tcp(server.port()), {}, {});
    ASSERT_TRUE(output.ok()) << output.status().message();
    const auto begin = Clock::now();
    const Status written = write_to(**output, 50);
    ASSERT_TRUE(written.ok()) << written.message();
    EXPECT_GE(seconds_since(begin), 49 / 25.0);
  }
  const std::string file = write("got.ts", got);
  const Packets picture = packets_in(file, AVMEDIA_TYPE_VIDEO), sound = packets_in(file, AVMEDIA_TYPE_AUDIO);
  EXPECT_EQ(picture.count, 50);
  EXPECT_NEAR(sound.begin_s, picture.begin_s, 0.04);
  EXPECT_NEAR(sound.end_s, picture.end_s, 0.06);
}

TEST_F(StreamTest, WrongAddressIsKnownAtOnce) {
  int port = 0;
  {
    TcpServer gone([](int, int) {});
    port = gone.port();
  }
  const auto begin = Clock::now();
  const Status status = StreamOutput::connect(tcp(port), {}, {}).status();
  EXPECT_EQ(status.code(), ErrorCode::kIo);
  EXPECT_NE(status.message().find("the server: cannot be reached (Connection refused)"), std::string::npos)
      << status.message();
  EXPECT_LT(seconds_since(begin), 1);
}

TEST_F(StreamTest, ServerThatNeverAnswersEndsAtTheDeadlineOrAStop) {
  std::atomic<bool> done = false;
  TcpServer server([&](int, int) { wait_for(done); });
  StreamAddress address = tcp(server.port());
  address.kind = StreamAddress::Kind::kRtmp;
  address.url = "rtmp://127.0.0.1:" + std::to_string(server.port()) + "/app/key";
  auto begin = Clock::now();
  const Status late = StreamOutput::connect(address, {.waits = {.connect_s = 0.5}}, {}).status();
  EXPECT_NE(late.message().find("does not answer within 0.5 s"), std::string::npos) << late.message();
  EXPECT_LT(seconds_since(begin), 1.5);

  std::stop_source stop;
  std::thread stopper([&] {
    std::this_thread::sleep_for(milliseconds(100));
    stop.request_stop();
  });
  begin = Clock::now();
  EXPECT_EQ(StreamOutput::connect(address, {}, stop.get_token()).status().code(), ErrorCode::kCancelled);
  EXPECT_LT(seconds_since(begin), 1);
  stopper.join();
  done = true;
}

// Frames until the connection's buffers are full.
TEST_F(StreamTest, ServerThatNeverReadsEndsAtTheDeadline) {
  std::atomic<bool> done = false;
  TcpServer server([&](int, int) { wait_for(done); });
  LiveStreamOptions options{.width = kSide, .height = kSide, .crf = 1, .preset = "ultrafast"};
  auto stream = LiveStream::open(connector_to(server), options, {.write_s = 0.5}, {});
  ASSERT_TRUE(stream.ok()) << stream.status().message();
  const std::vector<int16_t> silence(960);
  Status status;
  double longest_s = 0;
  for (int i = 0; i < 4000 && status.ok(); ++i) {
    const auto begin = Clock::now();
    status = (*stream)->write({i, 1, noise(i).data(), silence.data(), 960});
    longest_s = std::max(longest_s, seconds_since(begin));
  }
  EXPECT_EQ(status.code(), ErrorCode::kIo);
  EXPECT_NE(status.message().find("nothing is taken any more"), std::string::npos) << status.message();
  EXPECT_GT(longest_s, 0.4);
  EXPECT_LT(longest_s, 1.5);
  const auto begin = Clock::now();
  stream->reset();
  EXPECT_LT(seconds_since(begin), 1.5);
  done = true;
}

TEST_F(StreamTest, LostConnectionIsOpenedAgainAndGoesOnWithAKeyframe) {
  std::string parts[2];
  {
    TcpServer server([&](int connection, int number) {
      if (number < 2) parts[number] = read_to_end(connection, number == 0 ? 60000 : SIZE_MAX);
    });
    auto output = StreamOutput::connect(tcp(server.port()), {}, {});
    ASSERT_TRUE(output.ok());
    const Status written = write_to(**output, 75);
    ASSERT_TRUE(written.ok()) << written.message();
  }
  const Packets first = packets_in(write("0.ts", parts[0]), AVMEDIA_TYPE_VIDEO);
  const Packets second = packets_in(write("1.ts", parts[1]), AVMEDIA_TYPE_VIDEO);
  EXPECT_GT(first.count, 0);
  EXPECT_GT(second.count, 20);
  EXPECT_GE(second.keys, 1);
  EXPECT_LT(second.begin_s, 2);  // its own time begins again
}

TEST_F(StreamTest, LostForGoodSaysHowFarItCame) {
  std::unique_ptr<TcpServer> server;
  std::atomic<bool> ended = false;
  server = std::make_unique<TcpServer>([&](int connection, int) {
    read_to_end(connection, 30000);
    ended = true;
  });
  auto output = StreamOutput::connect(tcp(server->port()), {.reopens = 2}, {});
  ASSERT_TRUE(output.ok());
  auto writer = VideoWriter::open(**output, {.width = kSide, .height = kSide}, voice());
  ASSERT_TRUE(writer.ok());
  std::thread closer([&] {
    wait_for(ended);
    server.reset();
  });
  const Status status = write_frames(**writer, 300);
  closer.join();
  EXPECT_EQ(status.code(), ErrorCode::kIo);
  EXPECT_NE(status.message().find("the server: the connection was lost after "), std::string::npos) << status.message();
  EXPECT_NE(status.message().find(" s of the video ("), std::string::npos) << status.message();
}

TEST_F(StreamTest, FramesThatAreLeftOutStandStillInStep) {
  std::string got;
  {
    TcpServer server([&](int connection, int) { got = read_to_end(connection); });
    auto stream = LiveStream::open(connector_to(server), {.width = kSide, .height = kSide}, {}, {});
    ASSERT_TRUE(stream.ok()) << stream.status().message();
    const std::vector<int16_t> sound(960, 1000);
    for (int i = 100; i < 200; ++i) {
      if (i >= 130 && i < 160) continue;
      ASSERT_TRUE((*stream)->write({i, 1, noise(i).data(), sound.data(), 960}).ok());
    }
    ASSERT_TRUE((*stream)->finish().ok());
  }
  const std::string file = write("got.ts", got);
  const Packets picture = packets_in(file, AVMEDIA_TYPE_VIDEO), sound = packets_in(file, AVMEDIA_TYPE_AUDIO);
  EXPECT_EQ(picture.count, 70);
  EXPECT_NEAR(picture.end_s - picture.begin_s, 4, 0.05);
  EXPECT_NEAR(sound.begin_s, picture.begin_s, 0.04);
  EXPECT_NEAR(sound.end_s, picture.end_s, 0.06);
}

TEST_F(StreamTest, PipeHasFragmentsThatPlay) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  std::string got;
  std::thread reader([&] { got = read_to_end(ends[0]); });
  {
    auto output = StreamOutput::to_descriptor(ends[1], {});
    ASSERT_TRUE(output.ok());
    const Status written = write_to(**output, 60);
    EXPECT_TRUE(written.ok()) << written.message();
  }
  reader.join();
  ::close(ends[0]);
  const std::string file = write("got.mp4", got);
  EXPECT_EQ(packets_in(file, AVMEDIA_TYPE_VIDEO).count, 60);
  EXPECT_NEAR(packets_in(file, AVMEDIA_TYPE_AUDIO).end_s, 60 / 25.0, 0.04);
}

TEST_F(StreamTest, PipeWhoseReaderHasEndedSaysSo) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ::close(ends[0]);
  ::signal(SIGPIPE, SIG_IGN);
  auto output = StreamOutput::to_descriptor(ends[1], {});
  ASSERT_TRUE(output.ok());
  const Status status = write_to(**output, 60);
  EXPECT_EQ(status.code(), ErrorCode::kIo);
  EXPECT_NE(status.message().find("the program that reads it has ended"), std::string::npos) << status.message();
}

TEST_F(StreamTest, PipeThatIsNotReadWaitsUntilAStop) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  std::stop_source stop;
  std::atomic<bool> returned = false;
  Status status;
  std::thread writer([&] {
    auto output = StreamOutput::to_descriptor(ends[1], stop.get_token());
    status = write_to(**output, 200);
    returned = true;
  });
  std::this_thread::sleep_for(milliseconds(700));
  EXPECT_FALSE(returned);
  const auto begin = Clock::now();
  stop.request_stop();
  writer.join();
  EXPECT_LT(seconds_since(begin), 2);
  EXPECT_EQ(status.code(), ErrorCode::kCancelled) << status.message();
  ::close(ends[0]);
}

TEST_F(StreamTest, HlsIsAPlaylistOfSegmentsThatEachPlay) {
  auto writer = VideoWriter::open(path("my talk%d.m3u8"), {.width = kSide, .height = kSide}, voice());
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  for (int i = 0; i < 250; ++i) {
    ASSERT_TRUE((*writer)->write_frame(noise(i).data()).ok());
    if (i == 120) {
      EXPECT_EQ(slurp(path("my talk%d.m3u8")).find("ENDLIST"), std::string::npos);
      EXPECT_NE(slurp(path("my talk%d.m3u8")).find("\nmy%20talk%25d-00000.ts"), std::string::npos);
      EXPECT_FALSE(std::filesystem::exists(path("my talk%d-00001.ts")));
    }
  }
  ASSERT_TRUE((*writer)->finish().ok());
  const std::string playlist = slurp(path("my talk%d.m3u8"));
  EXPECT_EQ(playlist.rfind("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n", 0), 0u) << playlist;
  EXPECT_TRUE(playlist.ends_with("-00002.ts\n#EXT-X-ENDLIST\n")) << playlist;
  int64_t frames = 0;
  double end_s = 0;
  for (int segment = 0; segment < 3; ++segment) {
    const std::string file = path("my talk%d-0000" + std::to_string(segment) + ".ts");
    const Packets picture = packets_in(file, AVMEDIA_TYPE_VIDEO), sound = packets_in(file, AVMEDIA_TYPE_AUDIO);
    EXPECT_GE(picture.keys, 1) << segment;
    const double expected_s = segment == 0 ? picture.begin_s : end_s;
    EXPECT_NEAR(picture.begin_s, expected_s, 0.001) << segment;
    EXPECT_NEAR(sound.begin_s, picture.begin_s, 0.07) << segment;  // two packets of AAC at 32 kHz
    frames += picture.count;
    end_s = picture.end_s;
  }
  EXPECT_EQ(frames, 250);
}

TEST_F(StreamTest, HlsOfSimilarNamesHasSegmentsOfItsOwn) {
  std::vector<std::string> segments;
  for (const std::string name : {"a b", "a_b", "\u4f60", "\u597d"}) {
    auto writer = VideoWriter::open(path(name + ".m3u8"), {.width = kSide, .height = kSide}, nullptr);
    ASSERT_TRUE(writer.ok()) << writer.status().message();
    ASSERT_TRUE(write_frames(**writer, 2).ok());
    segments.push_back(path(name + "-00000.ts"));
  }
  for (const std::string& segment : segments) EXPECT_EQ(packets_in(segment, AVMEDIA_TYPE_VIDEO).count, 2) << segment;
  EXPECT_NE(slurp(path("\u4f60.m3u8")).find("\n%E4%BD%A0-00000.ts\n"), std::string::npos);
}

TEST_F(StreamTest, HlsKnowsTheNamesOfItsSegments) {
  const std::string playlist = path("a b.m3u8");
  for (const char* segment : {"a b-00000.ts", "a b-00017.ts", "a b-123456.ts"})
    EXPECT_TRUE(writes_segment(playlist, path(segment))) << segment;
  EXPECT_TRUE(writes_segment(playlist, path("./a b-00000.ts")));
  for (const char* other :
       {"a b-0000.ts", "a b-0000x.ts", "a b-.ts", "a_b-00000.ts", "a b-00000.tsx", "a b.ts", "-00000.ts"})
    EXPECT_FALSE(writes_segment(playlist, path(other))) << other;
  EXPECT_FALSE(writes_segment(playlist, "/a b-00000.ts"));
  EXPECT_FALSE(writes_segment(path("a b.mp4"), path("a b-00000.ts")));
}

TEST_F(StreamTest, HlsThatIsNotFinishedPlaysItsWholeSegments) {
  {
    EXPECT_EQ(check_video_path("a.M3U8").code(), ErrorCode::kInvalidArgument);  // its segments would be those of this
    auto writer = VideoWriter::open(path("a.m3u8"), {.width = kSide, .height = kSide}, nullptr);
    ASSERT_TRUE(writer.ok());
    for (int i = 0; i < 150; ++i) ASSERT_TRUE((*writer)->write_frame(noise(i).data()).ok());
  }
  const std::string playlist = slurp(path("a.m3u8"));
  EXPECT_NE(playlist.find("a-00000.ts"), std::string::npos);
  EXPECT_EQ(playlist.find("a-00001.ts"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path("a-00001.ts")));
}

}  // namespace
}  // namespace liveavatar
