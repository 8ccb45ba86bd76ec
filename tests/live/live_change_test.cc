// Another prompt or portrait while a session runs: from which block on, with which bits, and what it takes.
#include <future>

#include "live_fixture.h"
#include "media/image.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

using Frames = std::vector<uint8_t>;

class LiveChanges : public LiveSessions {
 protected:
  LiveChanges() {
    Image image{96, 80, Frames(96 * 80 * 3)};  // of another shape than the video
    for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = uint8_t(i * i / 7 + i % 3 * 60);
    EXPECT_TRUE(write_png(other_portrait_, image).ok());
  }
  static LiveRequest changeable() {
    LiveRequest request = request_at();
    request.allow_changes = true;
    return request;
  }
  // A session that is due a moment later, so that there is time before its first block.
  std::unique_ptr<LiveSession> open_later(const LiveRequest& request, Listener& listener) {
    if (first_ == nullptr) {
      first_ = open(request_at(), first_listener_);
      EXPECT_TRUE(first_listener_.wait_for_frames(kBlockFrames));
      clock_.advance(1ms);
    }
    return open(request, listener);
  }
  void next_block(Listener& listener) {
    const int64_t frames = listener.frames();
    clock_.advance(kBlock);
    ASSERT_TRUE(listener.wait_for_frames(frames + kBlockFrames));
  }
  static Frames block(const Frames& frames, int64_t b) {
    const int64_t bytes = kBlockFrames * 64 * 64 * 3;
    return Frames(frames.begin() + b * bytes, frames.begin() + (b + 1) * bytes);
  }
  // Silent blocks; `change` is called before block `at`.
  Frames changed_at(int64_t at, int64_t blocks, const LiveRequest& request,
                    const std::function<Expected<int64_t>(LiveSession&)>& change) {
    Listener listener;
    const bool begins_at_once = at != 0 && first_ == nullptr;
    auto session = begins_at_once ? open(request, listener) : open_later(request, listener);
    if (begins_at_once) {
      EXPECT_TRUE(listener.wait_for_frames(kBlockFrames));
    }
    for (int64_t b = begins_at_once ? 1 : 0; b < blocks; ++b) {
      if (b == at) {
        const Expected<int64_t> from = change(*session);
        EXPECT_TRUE(from.ok()) << from.status().message();
        EXPECT_EQ(*from, b * kBlockFrames);
      }
      next_block(listener);
    }
    return listener.rgb();
  }
  Frames unchanged(int64_t blocks, const LiveRequest& request) { return changed_at(-1, blocks, request, {}); }

  TempDir dir_;
  const std::string other_portrait_ = dir_.file("other.png");
  const std::string other_prompt_ = "an old man laughs out loud in the rain";
  Listener first_listener_;
  std::unique_ptr<LiveSession> first_;
};

TEST_F(LiveChanges, APromptIsThatOfTheBlockThatBeginsNext) {
  const Frames old = unchanged(4, changeable());
  const auto other = [&](LiveSession& s) { return s.set_prompt(other_prompt_); };
  const Frames changed = changed_at(2, 4, changeable(), other);
  for (int64_t b : {0, 1}) EXPECT_EQ(block(changed, b), block(old, b)) << b;
  for (int64_t b : {2, 3}) EXPECT_NE(block(changed, b), block(old, b)) << b;
}

TEST_F(LiveChanges, APromptBeforeTheFirstBlockIsThatOfTheOpening) {
  LiveRequest request = changeable();
  request.prompt = other_prompt_;
  const Frames opened = unchanged(3, request);
  EXPECT_EQ(changed_at(0, 3, changeable(), [&](LiveSession& s) { return s.set_prompt(other_prompt_); }), opened);
}

TEST_F(LiveChanges, APromptAndBackLeavesNoTrace) {
  const Frames old = unchanged(4, changeable());
  const auto and_back = [&](LiveSession& s) {
    EXPECT_TRUE(s.set_prompt(other_prompt_).ok());
    return s.set_prompt("a test");
  };
  EXPECT_EQ(changed_at(3, 4, changeable(), and_back), old);
}

TEST_F(LiveChanges, APortraitBeforeTheFirstBlockIsThatOfTheOpening) {
  LiveRequest request = changeable();
  request.image = other_portrait_;
  // Of the other picture the session would have the shape.
  request.fit = Fit::kOriginal;
  LiveRequest old = changeable();
  old.fit = Fit::kOriginal;
  const Expected<LiveJob> shape = resolve_live(*models_->checkpoint, request);
  ASSERT_TRUE(shape.ok()) << shape.status().message();
  ASSERT_EQ(shape->shape.width, 64);
  ASSERT_EQ(shape->shape.height, 64);
  const Frames wanted = unchanged(3, request);
  EXPECT_EQ(changed_at(0, 3, old, [&](LiveSession& s) { return s.set_portrait(other_portrait_); }), wanted);
}

// Whatever was shown before, and at any place in a clip.
TEST_F(LiveChanges, OfTheOldPortraitNothingIsLeft) {
  LiveRequest other = changeable();
  other.image = other_portrait_;
  const auto change = [&](LiveSession& s) { return s.set_portrait(other_portrait_); };
  for (int64_t at : {1, 3}) {
    const Frames from_old = changed_at(at, at + 2, changeable(), change);
    const Frames from_itself = changed_at(at, at + 2, other, change);
    EXPECT_NE(block(from_old, at - 1), block(from_itself, at - 1));
    for (int64_t b = at; b < at + 2; ++b) EXPECT_EQ(block(from_old, b), block(from_itself, b)) << at << ", " << b;
  }
}

TEST_F(LiveChanges, APortraitKeepsTheSoundInStep) {
  const Samples voice = demo_voice();
  Listener listener;
  auto session = open(changeable(), listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  ASSERT_TRUE(session->push(part(voice, 0, 3 * kBlockSamples)).ok());
  make(listener, 1);
  ASSERT_TRUE(session->set_portrait(other_portrait_).ok());
  make(listener, 2);
  make(listener, 3);
  Samples want(kBlockSamples, 0);
  want.insert(want.end(), voice.begin(), voice.begin() + 3 * int64_t(kBlockSamples));
  EXPECT_EQ(listener.audio(), want);
  EXPECT_EQ(listener.chunks().back().paused_seconds, 0);
}

TEST_F(LiveChanges, OneThatFailsIsSaidAndTheSessionGoesOnAsItWas) {
  const Frames old = unchanged(3, changeable());
  const auto wrong = [&](LiveSession& s) -> Expected<int64_t> {
    EXPECT_EQ(s.set_portrait("/nowhere.png").status().code(), ErrorCode::kNotFound);
    EXPECT_EQ(s.set_portrait("").status().code(), ErrorCode::kNotFound);
    EXPECT_EQ(s.set_portrait(LA_SOURCE_DIR "/README.md").status().code(), ErrorCode::kCorrupt);
    EXPECT_EQ(s.set_prompt("\xff").status().code(), ErrorCode::kInvalidArgument);
    return kBlockFrames;
  };
  EXPECT_EQ(changed_at(1, 3, changeable(), wrong), old);
}

TEST_F(LiveChanges, ASessionWithoutMemoryForItRefuses) {
  Listener listener;
  auto session = open(request_at(), listener);
  EXPECT_EQ(session->set_prompt("a test").status().code(), ErrorCode::kUnsupported);
  EXPECT_EQ(session->set_portrait(other_portrait_).status().message(),
            "set_portrait: this session has no memory for changes; open it with allow_changes");
}

TEST_F(LiveChanges, OthersHaveTheBitsThatTheyHaveAlone) {
  const Frames alone = unchanged(4, request_at(kRate, 7));
  Listener listener, other_listener;
  auto session = open_later(request_at(kRate, 7), listener);
  auto other = open_later(changeable(), other_listener);
  for (int64_t b = 0; b < 4; ++b) {
    if (b == 1) {
      EXPECT_TRUE(other->set_prompt(other_prompt_).ok());
    }
    if (b == 2) {
      EXPECT_TRUE(other->set_portrait(other_portrait_).ok());
    }
    next_block(listener);
  }
  EXPECT_EQ(listener.rgb(), alone);
}

TEST_F(LiveChanges, ItTakesWhatWasPlanned) {
  LiveRequest request = changeable();
  const LiveJob live = *resolve_live(*models_->checkpoint, request);
  const MemoryPlan less = resolve_live(*models_->checkpoint, request_at())->plan;
  EXPECT_GE(live.plan.session_bytes, less.session_bytes);
  EXPECT_EQ(live.plan.steady_bytes, less.steady_bytes);
  auto planned = [&](const std::string& name) {
    for (const PlanStage& stage : live.plan.stages)
      if (stage.name == name) return stage.peak_bytes;
    return size_t{0};
  };
  Listener listener;
  auto session = open(request, listener);
  ASSERT_TRUE(listener.wait_for_frames(kBlockFrames));
  std::string longest;
  for (int i = 0; i < 600; ++i) longest += "word ";
  Budget& budget = *models_->budget;
  budget.restart_recent_peak();
  ASSERT_TRUE(session->set_prompt(longest).ok());
  EXPECT_EQ(budget.recent_peak_bytes(), planned("new prompt"));
  EXPECT_EQ(budget.used_bytes(), live.plan.steady_bytes);
  budget.restart_recent_peak();
  ASSERT_TRUE(session->set_portrait(request.image).ok());
  EXPECT_EQ(budget.recent_peak_bytes(), planned("new portrait"));
  EXPECT_EQ(budget.used_bytes(), live.plan.steady_bytes);
  make(listener, 1);
  EXPECT_EQ(budget.used_bytes(), live.plan.steady_bytes);
}

TEST_F(LiveChanges, FromACallbackAndAtTheEndNobodyWaitsForEver) {
  Listener listener;
  std::promise<LiveSession*> opened;
  auto session_of = opened.get_future().share();
  std::vector<ErrorCode> codes;
  listener.before = [&](const LiveChunk& chunk) {
    if (chunk.first_frame == 0) codes.push_back(session_of.get()->set_prompt(other_prompt_).status().code());
    return chunk.first_frame == 0;
  };
  auto session = open(changeable(), listener);
  opened.set_value(session.get());
  EXPECT_EQ(listener.wait_for_end().code(), ErrorCode::kCancelled);
  EXPECT_EQ(codes, std::vector<ErrorCode>{ErrorCode::kOk});
  EXPECT_EQ(session->set_prompt(other_prompt_).status().code(), ErrorCode::kCancelled);
  for (bool engine_ends : {false, true}) {
    Listener silent;
    auto other = open(changeable(), silent);
    ASSERT_TRUE(silent.wait_for_frames(4));
    auto waiting = std::async(std::launch::async, [&] {
      Expected<int64_t> from = other->set_prompt(other_prompt_);
      while (from.ok()) from = other->set_portrait(other_portrait_);
      return from.status().code();
    });
    if (engine_ends) {
      loop_.reset();
    } else {
      other->close();
    }
    EXPECT_EQ(waiting.get(), ErrorCode::kCancelled);
  }
}

}  // namespace
}  // namespace liveavatar
