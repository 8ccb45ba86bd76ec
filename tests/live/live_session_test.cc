// Live sessions: frames and sound in step, and side by side. Time is a test's.
#include "live_fixture.h"
#include "support/sanitized.h"

namespace liveavatar {
namespace {

// What a job's own voice is replaced by: a silent block, and then speech.
class HeardLive : public AudioColumns {
 public:
  HeardLive(LiveColumns& columns, LiveSound& sound, const Samples& voice)
      : columns_(columns), sound_(sound), voice_(voice) {}
  int64_t count() const override { return 1; }
  Expected<bool> columns(int64_t first, int64_t count, float* out) override {
    if (first == kBlockFrames) LA_RETURN_IF_ERROR(sound_.push(voice_));
    return columns_.columns(first, count, out);
  }

 private:
  LiveColumns& columns_;
  LiveSound& sound_;
  const Samples& voice_;
};

// Six blocks are three clips: the sink is filled again too.
TEST_F(LiveSessions, FramesAreThoseOfAJobThatHearsTheSame) {
  const Samples voice = demo_voice();
  const LiveRequest request = request_at();
  Listener listener;
  {
    auto session = open(request, listener);
    ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
    ASSERT_TRUE(session->push(voice).ok());
    for (int64_t b = 1; b < 6; ++b) make(listener, b);
  }
  const LiveShape shape = resolve_live(*models_->checkpoint, request)->shape.live;
  LiveSound sound(shape);
  auto columns = *LiveColumns::open(*models_->audio, *models_->budget, shape, sound);
  HeardLive heard(*columns, sound, voice);
  std::vector<uint8_t> rgb;
  RunCalls calls;
  calls.hooks.audio = &heard;
  calls.on_chunk = [&](const VideoChunk& chunk) {
    rgb.insert(rgb.end(), chunk.rgb, chunk.rgb + chunk.frames * chunk.height * chunk.width * 3);
    return true;
  };
  ASSERT_TRUE(run_job(*models_, mini_job(3), calls).ok());
  EXPECT_EQ(listener.rgb(), rgb);
}

TEST_F(LiveSessions, FramesDoNotDependOnHowTheSoundWasCut) {
  const Samples voice = demo_voice();
  const Made whole = talk(request_at(), voice, 0, 4);
  for (size_t piece : {size_t{1}, size_t{320}, size_t{5000}}) {
    const Made cut = talk(request_at(), voice, piece, 4);
    EXPECT_EQ(cut.rgb, whole.rgb) << piece;
    EXPECT_EQ(cut.audio, whole.audio) << piece;
  }
}

TEST_F(LiveSessions, ThePushedSoundComesOutToTheSampleWithItsFrames) {
  const int rate = 44100;
  const Samples voice = demo_voice(rate, 1);
  Listener listener;
  auto session = open(request_at(rate), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  ASSERT_TRUE(session->push(voice).ok());
  ASSERT_TRUE(session->end_speech().ok());
  for (int64_t b = 1; b < 4; ++b) make(listener, b);
  const size_t block = size_t(block_samples(rate));
  Samples want(block, 0);
  want.insert(want.end(), voice.begin(), voice.end());
  want.resize(4 * block, 0);
  EXPECT_EQ(listener.audio(), want);
  const LiveChunk last = listener.chunks().back();
  EXPECT_EQ(last.samples, 4 * rate / 25);
  EXPECT_EQ(last.sample_rate, rate);
  EXPECT_EQ(last.position.speech, 0);
  EXPECT_EQ(last.position.samples, std::ssize(voice));
  EXPECT_TRUE(last.position.complete);
  EXPECT_FALSE(listener.chunks()[4].position.complete);
}

TEST_F(LiveSessions, FloatSamplesAreThoseIn16Bit) {
  Listener listener;
  auto session = open(request_at(), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  std::vector<float> samples(kBlockSamples, 0.5f);
  samples[1] = 3;
  ASSERT_TRUE(session->push(samples).ok());
  ASSERT_TRUE(session->end_speech().ok());
  samples[2] = std::nanf("");
  EXPECT_EQ(session->push(samples).code(), ErrorCode::kInvalidArgument);
  make(listener, 1);
  EXPECT_EQ(listener.audio()[kBlockSamples], 16384);
  EXPECT_EQ(listener.audio()[kBlockSamples + 1], 32767);
}

TEST_F(LiveSessions, SpeechIsInTheBlockAfterItCameAndMovesTheMouth) {
  const Made silent = talk(request_at(), Samples(2 * kBlockSamples, 0), 0, 3);
  const Made spoken = talk(request_at(), demo_voice(), 0, 3);
  const size_t block = spoken.rgb.size() / 3;
  EXPECT_TRUE(std::equal(spoken.rgb.begin(), spoken.rgb.begin() + int64_t(block), silent.rgb.begin()));
  for (int64_t b : {1, 2}) {
    const auto begin = spoken.rgb.begin() + b * int64_t(block);
    EXPECT_FALSE(std::equal(begin, begin + int64_t(block), silent.rgb.begin() + b * int64_t(block))) << b;
  }
}

TEST_F(LiveSessions, AnInterruptionStopsTheSpeechWithinABlock) {
  Listener listener;
  auto session = open(request_at(), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  ASSERT_TRUE(session->push(Samples(3 * kBlockSamples, 1000)).ok());
  make(listener, 1);
  EXPECT_GT(listener.chunks().back().queued_samples, 0);
  const Expected<LivePosition> at = session->interrupt();
  ASSERT_TRUE(at.ok());
  EXPECT_EQ(at->speech, 0);
  EXPECT_EQ(at->samples, int64_t(kBlockSamples));
  EXPECT_TRUE(at->complete);
  make(listener, 2);
  Samples want(kBlockSamples, 0);
  want.resize(2 * kBlockSamples, 1000);
  for (int i = 80; i > 0; --i) want.push_back(int16_t(1000 * i / 81));  // 5 ms fade out
  want.resize(3 * kBlockSamples, 0);
  EXPECT_EQ(listener.audio(), want);
}

TEST_F(LiveSessions, TwoSideBySideHaveTheBitsOfEachAlone) {
  const Samples voice = demo_voice();
  const Made first = talk(request_at(kRate, 1), voice, 0, 4);
  const Made second = talk(request_at(kRate, 2), Samples(), 0, 3);
  EXPECT_NE(first.rgb, second.rgb);
  Listener a, b;
  auto one = open(request_at(kRate, 1), a);
  ASSERT_TRUE(a.wait_for_frames(kBlockFrames));
  clock_.advance(1ms);
  auto other = open(request_at(kRate, 2), b);  // due with the next block of the first
  for (int64_t block = 1; block < 4; ++block) {
    ASSERT_TRUE(one->push(part(voice, size_t(block - 1) * kBlockSamples, kBlockSamples)).ok());
    clock_.advance(kBlock);
    ASSERT_TRUE(a.wait_for_frames((block + 1) * kBlockFrames));
    ASSERT_TRUE(b.wait_for_frames(block * kBlockFrames));
  }
  EXPECT_EQ(a.rgb(), first.rgb);
  EXPECT_EQ(b.rgb(), second.rgb);
}

TEST_F(LiveSessions, MemoryIsAsPlannedAndStaysSo) {
  const size_t models = models_->budget->used_bytes();
  const LiveJob live = *resolve_live(*models_->checkpoint, request_at());
  Listener listener;
  auto session = open(request_at(), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  EXPECT_EQ(models_->budget->used_bytes(), live.plan.steady_bytes);
  const size_t peak = models_->budget->peak_bytes();
  constexpr int64_t kBlocks = kSanitized ? 30 : 200;
  const Samples voice = demo_voice(kRate, 9);
  for (int64_t b = 1; b < kBlocks; ++b) {
    const size_t at = size_t(b - 1) * kBlockSamples % voice.size();
    ASSERT_TRUE(session->push(part(voice, at, kBlockSamples)).ok());
    if (b % 7 == 0) {
      ASSERT_TRUE(session->end_speech().ok());
    }
    if (b % 11 == 0) {
      ASSERT_TRUE(session->interrupt().ok());
    }
    make(listener, b);
  }
  EXPECT_EQ(models_->budget->used_bytes(), live.plan.steady_bytes);
  EXPECT_EQ(models_->budget->peak_bytes(), peak);
  session->close();
  EXPECT_EQ(models_->budget->used_bytes(), models);
}

}  // namespace
}  // namespace liveavatar
