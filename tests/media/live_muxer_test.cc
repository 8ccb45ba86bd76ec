// A live stream in memory: what one SourceBuffer gets is a whole MP4, its sound and picture in step, for as long as it
// runs.
#include "media/live_muxer.h"

#include <malloc.h>

#include "fixture.h"
#include "media/mp4_boxes.h"

namespace liveavatar {
namespace {

constexpr int kFps = 25, kChunk = 4;
constexpr int kOpusHz = 48000;

using Kind = LiveSegment::Kind;

struct Piece {
  Kind kind;
  std::string bytes;
};

// A track's samples of one fragment.
struct Part {
  int64_t begin = 0, end = 0;  // in the track's time
  size_t samples = 0;
  std::vector<size_t> keys;  // in it
};

// What a client sees: boxes of the pieces, one after the other.
struct Stream {
  std::vector<Piece> pieces;

  LiveSegmentSink sink() {
    return [this](const LiveSegment& segment) {
      pieces.push_back(
          {segment.kind, std::string(reinterpret_cast<const char*>(segment.bytes.data()), segment.bytes.size())});
    };
  }
  std::string bytes() const {
    std::string all;
    for (const Piece& piece : pieces) all += piece.bytes;
    return all;
  }
  std::string moov() const {
    const std::string& init = pieces[0].bytes;
    for (const Mp4Box& box : boxes_in(init, 0)) {
      if (box.name == "moov") return init.substr(size_t(box.offset), size_t(box.size));
    }
    return {};
  }
  // Of every fragment that has some of the track, which is 1 (picture) or 2 (sound).
  std::vector<Part> parts(uint32_t track) const {
    std::vector<Part> all;
    const auto defaults = defaults_of(moov());
    for (size_t i = 1; i < pieces.size(); ++i) {
      const std::string moof = pieces[i].bytes.substr(0, size_t(big_endian(pieces[i].bytes, 0, 4)));
      const std::vector<Mp4Run> runs = runs_of(moof, 0, defaults);
      for (const Mp4Box& box : boxes_in(moof, 8)) {
        if (box.name != "traf") continue;
        const std::string traf = moof.substr(size_t(box.offset), size_t(box.size));
        if (big_endian(child_of(traf, "tfhd"), 12, 4) == track) all.push_back(part_of(traf, runs, track));
      }
    }
    return all;
  }

 private:
  static Part part_of(const std::string& traf, const std::vector<Mp4Run>& runs, uint32_t track) {
    const std::string tfdt = child_of(traf, "tfdt");
    Part part;
    part.begin = part.end = int64_t(big_endian(tfdt, 12, tfdt[8] == 1 ? 8 : 4));
    for (const Mp4Run& run : runs) {
      if (run.track != track) continue;
      for (const Mp4Sample& sample : run.samples) {
        if (sample.key) part.keys.push_back(part.samples);
        part.end += sample.duration;
        ++part.samples;
      }
    }
    return part;
  }
};

constexpr int kSide = 32;

LiveMuxerOptions tiny(int64_t rate) {
  return {.width = kSide, .height = kSide, .sample_rate = rate, .preset = "ultrafast"};
}

// A white frame and a click begin at the same moment, in every period but the first; else black, and silence.
struct Clicks {
  int64_t rate, period;  // samples a second; frames
  std::vector<uint8_t> rgb;
  std::vector<int16_t> audio;

  bool white(int64_t frame) const { return frame >= period && frame % period == 0; }
  void make(int64_t first, int64_t frames) {
    rgb.clear();
    audio.clear();
    for (int64_t f = first; f < first + frames; ++f) {
      rgb.insert(rgb.end(), kSide * kSide * 3, white(f) ? 255 : 0);
      for (int64_t i = 0; i < rate / kFps; ++i)
        audio.push_back(white(f) ? int16_t(16000 * std::sin(2 * M_PI * 1000 * double(i) / double(rate))) : int16_t(0));
    }
  }
};

void write_clicks(LiveMuxer& muxer, Clicks& clicks, int64_t frames, int64_t chunk = kChunk) {
  for (int64_t f = 0; f < frames; f += chunk) {
    clicks.make(f, chunk);
    const Status status = muxer.write(clicks.rgb.data(), chunk, clicks.audio.data(), std::ssize(clicks.audio));
    ASSERT_TRUE(status.ok()) << status.message();
  }
}

class LiveMuxerTest : public MediaTest {
 protected:
  // Seconds at which frames turn white, by their own times; and how many frames there are.
  std::vector<double> flashes(const std::string& file, int64_t& frames) {
    std::vector<double> at;
    auto input = open_input(file, AVMEDIA_TYPE_VIDEO);
    EXPECT_TRUE(input.ok()) << input.status().message();
    for (frames = 0; input.ok() && input->next(); ++frames) {
      EXPECT_EQ(input->frame->width, kSide);
      const AVRational base = input->format->streams[input->stream]->time_base;
      if (input->frame->data[0][0] > 128) at.push_back(double(input->frame->pts) * av_q2d(base));
    }
    return at;
  }
  // Seconds at which the sound rises after half a second of silence; and how many samples there are.
  std::vector<double> rises(const std::string& file, int64_t& samples) {
    std::vector<double> at;
    auto input = open_input(file, AVMEDIA_TYPE_AUDIO);
    EXPECT_TRUE(input.ok()) << input.status().message();
    double quiet_since = -1;
    for (samples = 0; input.ok() && input->next(); samples += input->frame->nb_samples) {
      const AVFrame& frame = *input->frame;
      EXPECT_EQ(frame.sample_rate, kOpusHz);
      EXPECT_EQ(frame.ch_layout.nb_channels, 1);
      const double begin = double(frame.pts) * av_q2d(input->format->streams[input->stream]->time_base);
      const auto* values = reinterpret_cast<const float*>(frame.data[0]);
      for (int i = 0; i < frame.nb_samples; ++i) {
        if (std::abs(values[i]) < 0.1F) continue;
        const double now = begin + double(i) / kOpusHz;
        if (now - quiet_since > 0.5) at.push_back(now);
        quiet_since = now;
      }
    }
    return at;
  }
};

TEST_F(LiveMuxerTest, PictureAndSoundComeBackInStepAtEveryRate) {
  for (int64_t rate : {8000, 16000, 24000, 44100, 48000}) {
    SCOPED_TRACE(std::to_string(rate) + " Hz");
    Stream stream;
    auto muxer = LiveMuxer::open(tiny(rate), stream.sink());
    ASSERT_TRUE(muxer.ok()) << muxer.status().message();
    Clicks clicks{rate, kFps, {}, {}};
    constexpr int64_t kFrames = 100;
    write_clicks(**muxer, clicks, kFrames);
    ASSERT_TRUE((*muxer)->finish().ok());
    const std::string file = write("live.mp4", stream.bytes());
    int64_t frames = 0, samples = 0;
    const std::vector<double> seen = flashes(file, frames), heard = rises(file, samples);
    EXPECT_EQ(frames, kFrames);
    EXPECT_NEAR(double(samples), kFrames * kOpusHz / kFps, kOpusHz / 50);  // a packet's padding at the end
    ASSERT_EQ(seen.size(), 3U);
    ASSERT_EQ(heard.size(), 3U);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(seen[i], double(i + 1), 0.001);
      EXPECT_NEAR(heard[i], seen[i], 0.003) << i;
    }
  }
}

TEST_F(LiveMuxerTest, EveryPieceIsWholeAndTimesAreContinuous) {
  Stream stream;
  auto muxer = LiveMuxer::open(tiny(24000), stream.sink());
  ASSERT_TRUE(muxer.ok()) << muxer.status().message();
  Clicks clicks{24000, kFps, {}, {}};
  write_clicks(**muxer, clicks, 100);
  ASSERT_EQ(stream.pieces.size(), 26U);  // the init segment, and a fragment a chunk
  ASSERT_TRUE((*muxer)->finish().ok());
  ASSERT_TRUE((*muxer)->finish().ok());
  ASSERT_EQ(stream.pieces.size(), 27U);  // the last sound
  for (size_t i = 0; i < stream.pieces.size(); ++i) {
    const auto boxes = boxes_in(stream.pieces[i].bytes, 0);
    ASSERT_EQ(boxes.size(), 2U) << i;
    EXPECT_EQ(boxes[0].name, i == 0 ? "ftyp" : "moof") << i;
    EXPECT_EQ(boxes[1].name, i == 0 ? "moov" : "mdat") << i;
    EXPECT_EQ(boxes[1].offset + boxes[1].size, std::ssize(stream.pieces[i].bytes)) << i;
    EXPECT_EQ(stream.pieces[i].kind == Kind::kInit, i == 0);
  }
  for (uint32_t track : {1, 2}) {
    const std::vector<Part> parts = stream.parts(track);
    ASSERT_EQ(parts.size(), track == 1 ? 25U : 26U);
    EXPECT_EQ(parts[0].begin, 0);
    for (size_t i = 1; i < parts.size(); ++i) EXPECT_EQ(parts[i].begin, parts[i - 1].end) << track << ", " << i;
  }
  for (const Part& part : stream.parts(1)) EXPECT_EQ(part.samples, size_t(kChunk));
}

TEST_F(LiveMuxerTest, EditListCutsTheLeadInOfTheSound) {
  Stream stream;
  auto muxer = LiveMuxer::open(tiny(24000), stream.sink());
  ASSERT_TRUE(muxer.ok()) << muxer.status().message();
  Clicks clicks{24000, kFps, {}, {}};
  write_clicks(**muxer, clicks, kChunk);
  const std::string& init = stream.pieces[0].bytes;
  const size_t edits = init.rfind("elst"), opus = init.find("dOps");
  ASSERT_NE(edits, std::string::npos);
  ASSERT_NE(opus, std::string::npos);
  const uint64_t pre_skip = big_endian(init, opus + 6, 2);
  EXPECT_GT(pre_skip, 0U);
  EXPECT_EQ(big_endian(init, edits + 8, 4), 1U);         // one edit
  EXPECT_EQ(big_endian(init, edits + 12, 4), 0U);        // to the end, which is not known
  EXPECT_EQ(big_endian(init, edits + 16, 4), pre_skip);  // samples that are not played
}

TEST_F(LiveMuxerTest, InitSegmentHasNoDurationSoThatAPlayerKnowsItIsLive) {
  Stream stream;
  auto muxer = LiveMuxer::open(tiny(24000), stream.sink());
  ASSERT_TRUE(muxer.ok()) << muxer.status().message();
  Clicks clicks{24000, kFps, {}, {}};
  write_clicks(**muxer, clicks, kChunk);
  const std::string mvhd = child_of(stream.moov(), "mvhd");
  EXPECT_EQ(big_endian(mvhd, 24, 4), 0U);
  EXPECT_EQ(child_of(child_of(stream.moov(), "mvex"), "mehd"), "");
}

TEST_F(LiveMuxerTest, AKeyframeComesEverySecondAtTheStartOfAFragment) {
  for (int64_t chunk : {1, 3, 4, 25}) {
    SCOPED_TRACE(chunk);
    Stream stream;
    auto muxer = LiveMuxer::open(tiny(24000), stream.sink());
    ASSERT_TRUE(muxer.ok()) << muxer.status().message();
    Clicks clicks{24000, 7, {}, {}};  // flashes, where an encoder that may would begin anew
    write_clicks(**muxer, clicks, 300, chunk);
    int64_t frame = 0, last_key = 0;
    size_t piece = 0;
    for (const Part& part : stream.parts(1)) {
      ++piece;
      for (size_t key : part.keys) EXPECT_EQ(key, 0U) << frame;
      EXPECT_EQ(stream.pieces[piece].kind, part.keys.empty() ? Kind::kFragment : Kind::kKey);
      if (!part.keys.empty()) {
        EXPECT_EQ(frame - last_key, frame == 0 ? 0 : kFps / chunk * chunk);
        last_key = frame;
      }
      frame += int64_t(part.samples);
    }
    EXPECT_EQ(frame, 300);
  }
}

TEST_F(LiveMuxerTest, AKeyframeComesWhenItIsRequestedAndAClientCanBeginThere) {
  Stream stream;
  auto muxer = LiveMuxer::open(tiny(16000), stream.sink());
  ASSERT_TRUE(muxer.ok()) << muxer.status().message();
  Clicks clicks{16000, kFps, {}, {}};
  write_clicks(**muxer, clicks, 2 * kChunk);
  (*muxer)->request_keyframe();
  write_clicks(**muxer, clicks, 3 * kChunk);
  std::vector<Kind> kinds;
  for (const Piece& piece : stream.pieces) kinds.push_back(piece.kind);
  EXPECT_EQ(kinds, (std::vector<Kind>{Kind::kInit, Kind::kKey, Kind::kFragment, Kind::kKey, Kind::kFragment,
                                      Kind::kFragment}));
  // A client that joins there.
  std::string joined = stream.pieces[0].bytes;
  for (size_t i = 3; i < stream.pieces.size(); ++i) joined += stream.pieces[i].bytes;
  int64_t frames = 0;
  flashes(write("joined.mp4", joined), frames);
  EXPECT_EQ(frames, 3 * kChunk);
}

TEST_F(LiveMuxerTest, CodecsAreThoseOfTheStream) {
  Stream stream;
  LiveMuxerOptions options = tiny(24000);
  options.width = 704;
  options.height = 384;
  auto muxer = LiveMuxer::open(options, stream.sink());
  ASSERT_TRUE(muxer.ok()) << muxer.status().message();
  EXPECT_EQ((*muxer)->codecs(), "avc1.42c01e,opus");  // constrained baseline, level 3
  options.width = options.height = kSide;
  muxer = LiveMuxer::open(options, stream.sink());
  ASSERT_TRUE(muxer.ok()) << muxer.status().message();
  EXPECT_EQ((*muxer)->codecs(), "avc1.42c00a,opus");
  Clicks clicks{24000, kFps, {}, {}};
  write_clicks(**muxer, clicks, kChunk);
  const std::string init = stream.pieces[0].bytes;
  const size_t avcc = init.find("avcC");
  ASSERT_NE(avcc, std::string::npos);
  EXPECT_EQ(init.substr(avcc + 5, 3), "\x42\xc0\x0a");
  EXPECT_NE(init.find("dOps"), std::string::npos);
}

TEST_F(LiveMuxerTest, NothingIsWrittenBeforeThereIsSoundAndNothingIsLost) {
  LiveMuxerOptions options = tiny(48000);
  options.fps = 100;  // a frame has half a packet
  Stream stream;
  auto muxer = LiveMuxer::open(options, stream.sink());
  ASSERT_TRUE(muxer.ok()) << muxer.status().message();
  const std::vector<uint8_t> rgb(kSide * kSide * 3, 100);
  const std::vector<int16_t> audio(480);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE((*muxer)->write(rgb.data(), 1, audio.data(), 480).ok());
  EXPECT_EQ(stream.pieces[0].kind, Kind::kInit);
  EXPECT_EQ(stream.parts(1)[0].samples, 2U);
  int64_t frames = 0;
  flashes(write("live.mp4", stream.bytes()), frames);
  EXPECT_EQ(frames, 10);
}

TEST_F(LiveMuxerTest, WhatCannotBeStreamedIsRefusedInOneLine) {
  auto refusal = [](int64_t width, int64_t height, int64_t rate) {
    LiveMuxerOptions options = tiny(rate);
    options.width = width;
    options.height = height;
    const auto muxer = LiveMuxer::open(options, [](const LiveSegment&) {});
    EXPECT_EQ(muxer.status().code(), ErrorCode::kInvalidArgument);
    return muxer.status().message();
  };
  EXPECT_EQ(refusal(65, 64, 24000), "a stream of 65x64: H.264 takes even sides; choose another `size`");
  EXPECT_EQ(refusal(64, 63, 24000), "a stream of 64x63: H.264 takes even sides; choose another `size`");
  EXPECT_EQ(refusal(0, 0, 24000), "a stream of 0x0: H.264 takes even sides; choose another `size`");
  EXPECT_EQ(refusal(64, 64, 11025 + 1), "a stream's sound at 11026 Hz: choose a multiple of 25 from 8000 to 48000");
  EXPECT_EQ(refusal(64, 64, 96000), "a stream's sound at 96000 Hz: choose a multiple of 25 from 8000 to 48000");
  EXPECT_EQ(find_encoder("libmissing", "Opus").status().message(),
            "FFmpeg here has no Opus encoder; install FFmpeg's libraries with libmissing, as Debian has them");
}

TEST_F(LiveMuxerTest, SoundOfAnotherLengthThanItsFramesIsRefused) {
  Stream stream;
  auto muxer = LiveMuxer::open(tiny(24000), stream.sink());
  ASSERT_TRUE(muxer.ok()) << muxer.status().message();
  Clicks clicks{24000, kFps, {}, {}};
  clicks.make(0, kChunk);
  EXPECT_EQ((*muxer)->write(clicks.rgb.data(), kChunk, clicks.audio.data(), 3839).message(),
            "a stream: 3839 samples are not the sound of 4 frames; give 960 a frame");
  ASSERT_TRUE((*muxer)->write(clicks.rgb.data(), kChunk, clicks.audio.data(), 3840).ok());
}

TEST_F(LiveMuxerTest, AStreamOfTenMinutesStaysInStepAndTakesNoMoreMemory) {
  constexpr int64_t kFrames = 10 * 60 * kFps;
  Stream tail;  // the init segment, and the last three seconds
  auto muxer = LiveMuxer::open(tiny(44100), [&](const LiveSegment& segment) {
    tail.sink()(segment);
    if (tail.pieces.size() > 3 * kFps / kChunk + 1) tail.pieces.erase(tail.pieces.begin() + 1);
  });
  ASSERT_TRUE(muxer.ok()) << muxer.status().message();
  Clicks clicks{44100, kFps, {}, {}};
  size_t after_a_minute = 0;
  for (int64_t f = 0; f < kFrames; f += kChunk) {
    clicks.make(f, kChunk);
    ASSERT_TRUE((*muxer)->write(clicks.rgb.data(), kChunk, clicks.audio.data(), std::ssize(clicks.audio)).ok());
    if (f == 60 * kFps) after_a_minute = mallinfo2().uordblks;
  }
  EXPECT_LT(mallinfo2().uordblks, after_a_minute + 64 * 1024);
  int64_t frames = 0, samples = 0;
  const std::string file = write("tail.mp4", tail.bytes());
  const std::vector<double> seen = flashes(file, frames), heard = rises(file, samples);
  ASSERT_GE(seen.size(), 2U);
  ASSERT_GE(heard.size(), 2U);
  EXPECT_NEAR(seen.back(), 599, 0.001);
  EXPECT_NEAR(heard.back(), 599, 0.003);
}

}  // namespace
}  // namespace liveavatar
