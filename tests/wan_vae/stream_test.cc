#include "fixture.h"
#include "models/wan_vae/static_image.h"

namespace liveavatar {
namespace {

TEST_F(WanVaeTest, EncodingInManyCallsEqualsOneCall) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    auto vae = load(dtype);
    OwnedTensor pixels = wave({3, 17, 24, 16});
    OwnedTensor whole = encode(*vae, pixels.tensor, {17});
    EXPECT_TRUE(same_bits(whole.tensor, encode(*vae, pixels.tensor, {1, 4, 4, 4, 4}).tensor));
    EXPECT_TRUE(same_bits(whole.tensor, encode(*vae, pixels.tensor, {5, 8, 4}).tensor));
  }
}

TEST_F(WanVaeTest, FramesThatFillNoLatentAreDropped) {
  auto vae = load();
  OwnedTensor pixels = wave({3, 8, 16, 16}), five = zeros({3, 5, 16, 16});
  get_planes(pixels.tensor, 0, five.tensor);
  EXPECT_TRUE(same_bits(encode(*vae, pixels.tensor, {8}).tensor, encode(*vae, five.tensor, {5}).tensor));
}

// Two videos at once, one step each alternately, give the same as each alone.
TEST_F(WanVaeTest, StreamsDoNotDisturbEachOther) {
  auto vae = load();
  OwnedTensor z[2] = {wave({16, 3, 2, 3}), wave({16, 3, 2, 3}, 1.0f)};
  OwnedTensor alone[2] = {decode(*vae, z[0].tensor), decode(*vae, z[1].tensor)};
  EXPECT_FALSE(same_bits(alone[0].tensor, alone[1].tensor));
  OwnedTensor frames[2] = {zeros({9, 16, 24, 3}), zeros({9, 16, 24, 3})}, latent = zeros({16, 1, 2, 3});
  std::unique_ptr<VaeDecodeStream> streams[2];
  for (auto& stream : streams) stream = value_of(VaeDecodeStream::open(*vae, budget_, 2, 3));
  for (int64_t i = 0, done = 0; i < 3; ++i) {
    int64_t written = 0;
    for (size_t s : {0u, 1u}) {
      get_planes(z[s].tensor, i, latent.tensor);
      written = value_of(streams[s]->step(latent.tensor, frames[s].tensor.slice(done, 9 - done)));
      EXPECT_EQ(written, i == 0 ? 1 : 4);
    }
    done += written;
  }
  EXPECT_TRUE(same_bits(frames[0].tensor, alone[0].tensor));
  EXPECT_TRUE(same_bits(frames[1].tensor, alone[1].tensor));
}

// Priming leaves what steps leave, whatever the number of latents; and it does need the layers that it runs.
TEST_F(WanVaeTest, PrimingEqualsStepsWithoutFrames) {
  backend_ = backend_on("cpu", 2);
  auto vae = load(DType::kBF16);
  for (int64_t primed : {1, 3, 7}) {
    OwnedTensor z = wave({16, primed + 3, 2, 3}), latent = zeros({16, 1, 2, 3}), frames = zeros({4, 16, 24, 3});
    OwnedTensor all = decode(*vae, z.tensor);
    for (int64_t too_early : {0, 2}) {
      auto stream = value_of(VaeDecodeStream::open(*vae, budget_, 2, 3));
      bool same = true;
      for (int64_t i = 0; i < primed + 3; ++i) {
        get_planes(z.tensor, i, latent.tensor);
        if (i < primed) {
          ASSERT_TRUE(stream->prime(latent.tensor, primed - 1 - i + too_early).ok());
          continue;
        }
        ASSERT_EQ(value_of(stream->step(latent.tensor, frames.tensor)), 4);
        same = same && same_bits(frames.tensor, all.tensor.slice(4 * i - 3, 4));
      }
      EXPECT_EQ(same, too_early == 0) << primed << " latents";
    }
  }
}

TEST_F(WanVaeTest, PrimingRunsFewerLayersEarlier) {
  WanVaeConfig config;
  config.dim = 8;
  size_t all = decoder_layers(config).size();
  EXPECT_EQ(priming_layers(config, 0), all);
  EXPECT_EQ(priming_layers(config, 1), all);
  EXPECT_EQ(priming_layers(config, 2), all - 1);
  EXPECT_EQ(priming_layers(config, 3), all - 2);
  EXPECT_EQ(priming_layers(config, 4), all - 4);  // the upsampling in front of full resolution goes too
  EXPECT_EQ(priming_layers(config, 100), all - 7);
}

// A frame changes the latents from its own on, and none before.
TEST_F(WanVaeTest, EncoderIsCausal) {
  auto vae = load();
  OwnedTensor pixels = wave({3, 13, 16, 16}), changed = wave({3, 13, 16, 16}), frame = wave({3, 1, 16, 16}, 2.0f);
  put_planes(frame.tensor, changed.tensor, 6);  // in the third latent's frames 5 to 8
  OwnedTensor a = encode(*vae, pixels.tensor, {13}), b = encode(*vae, changed.tensor, {13});
  OwnedTensor one_a = zeros({16, 1, 2, 2}), one_b = zeros({16, 1, 2, 2});
  for (int64_t i = 0; i < 4; ++i) {
    get_planes(a.tensor, i, one_a.tensor);
    get_planes(b.tensor, i, one_b.tensor);
    EXPECT_EQ(same_bits(one_a.tensor, one_b.tensor), i < 2) << "latent " << i;
  }
}

TEST_F(WanVaeTest, RefusesAWrongFrameCountAndTheStreamContinues) {
  auto vae = load();
  auto stream = value_of(VaeEncodeStream::open(*vae, budget_, 16, 24));
  OwnedTensor pixels = wave({3, 9, 16, 24}), z = zeros({16, 1, 2, 3}), all = zeros({16, 3, 2, 3});
  auto step = [&](int64_t begin, int64_t frames) {
    OwnedTensor part = zeros({3, frames, 16, 24});
    get_planes(pixels.tensor, begin, part.tensor);
    return stream->step(part.tensor, z.tensor);
  };
  for (int64_t frames : {2, 4, 5}) EXPECT_EQ(step(0, frames).code(), ErrorCode::kInvalidArgument) << frames;
  ASSERT_TRUE(step(0, 1).ok());
  put_planes(z.tensor, all.tensor, 0);
  for (int64_t frames : {1, 3, 5, 8}) EXPECT_EQ(step(1, frames).code(), ErrorCode::kInvalidArgument) << frames;
  Status status = step(1, 3);
  EXPECT_NE(status.message().find("[3, 3, 16, 24]"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("[3, 4, 16, 24]"), std::string::npos) << status.message();
  for (int64_t i : {1, 2}) {
    ASSERT_TRUE(step(4 * i - 3, 4).ok());
    put_planes(z.tensor, all.tensor, i);
  }
  EXPECT_TRUE(same_bits(all.tensor, encode(*vae, pixels.tensor, {9}).tensor));
}

TEST_F(WanVaeTest, WrongShapesAreRefused) {
  auto vae = load();
  auto encoder = value_of(VaeEncodeStream::open(*vae, budget_, 16, 24));
  auto decoder = value_of(VaeDecodeStream::open(*vae, budget_, 2, 3));
  OwnedTensor z = zeros({16, 1, 2, 3}), frames = zeros({4, 16, 24, 3});
  EXPECT_EQ(encoder->step(zeros({3, 1, 24, 16}).tensor, z.tensor).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(encoder->step(zeros({3, 1, 16, 24}, DType::kBF16).tensor, z.tensor).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(encoder->step(zeros({3, 1, 16, 24}).tensor, zeros({16, 1, 3, 2}).tensor).code(),
            ErrorCode::kInvalidArgument);
  auto code = [&](const Tensor& latent, const Tensor& out) { return decoder->step(latent, out).status().code(); };
  EXPECT_EQ(code(zeros({16, 2, 2, 3}).tensor, frames.tensor), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(Tensor(), frames.tensor), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(z.tensor, zeros({4, 24, 16, 3}).tensor), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(z.tensor, zeros({3, 4, 16, 24}).tensor), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(z.tensor, frames.tensor.slice(0, 1)), ErrorCode::kOk) << "room for the first frame is enough";
  EXPECT_EQ(code(z.tensor, frames.tensor.slice(0, 3)), ErrorCode::kInvalidArgument);
}

TEST_F(WanVaeTest, ImpossibleSizesAreRefused) {
  auto vae = load();
  for (int64_t side : {int64_t{-8}, int64_t{0}, int64_t{4}, int64_t{20}, int64_t{1} << 40}) {
    EXPECT_EQ(VaeEncodeStream::open(*vae, budget_, side, 16).status().code(), ErrorCode::kInvalidArgument) << side;
    EXPECT_EQ(VaeEncodeStream::open(*vae, budget_, 16, side).status().code(), ErrorCode::kInvalidArgument) << side;
  }
  for (int64_t side : {int64_t{-1}, int64_t{0}, int64_t{1} << 62}) {
    EXPECT_EQ(VaeDecodeStream::open(*vae, budget_, side, 2).status().code(), ErrorCode::kInvalidArgument) << side;
  }
  OwnedTensor picture = zeros({3, 20, 16});
  EXPECT_EQ(encode_static_image(*vae, budget_, picture.tensor).status().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(encode_static_image(*vae, budget_, zeros({1, 16, 16}).tensor).status().code(), ErrorCode::kInvalidArgument);
}

TEST_F(WanVaeTest, FramesAreClamped) {
  auto vae = load();
  OwnedTensor z = wave({16, 2, 2, 2});
  for (int64_t i = 0; i < z.tensor.elements(); ++i) z.tensor.host<float>()[i] *= 20;
  OwnedTensor frames = decode(*vae, z.tensor);
  int64_t at_limit = 0;
  for (int64_t i = 0; i < frames.tensor.elements(); ++i) {
    float value = frames.tensor.host<float>()[i];
    ASSERT_LE(std::fabs(value), 1.0f);
    at_limit += std::fabs(value) == 1.0f;
  }
  EXPECT_GT(at_limit, 0);
}

TEST_F(WanVaeTest, ThreadsChangeNothing) {
  OwnedTensor z = wave({16, 3, 3, 2}), pixels = wave({3, 9, 24, 16});
  for (const char* device : {"reference", "cpu"}) {
    auto one_thread = backend_on(device, 1), three_threads = backend_on(device, 3);
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      auto one = value_of(WanVae::load(*golden_weights(), *one_thread, budget_, dtype));
      auto three = value_of(WanVae::load(*golden_weights(), *three_threads, budget_, dtype));
      EXPECT_TRUE(same_bits(decode(*one, z.tensor).tensor, decode(*three, z.tensor).tensor)) << device;
      EXPECT_TRUE(same_bits(encode(*one, pixels.tensor, {9}).tensor, encode(*three, pixels.tensor, {9}).tensor))
          << device;
    }
  }
}

// Going on beyond the fixed latent gives the same bits; in bf16 too, because the encoder has no feedback.
TEST_F(WanVaeTest, AStaticImageReachesItsFixedPoint) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    auto vae = load(dtype);
    int64_t fixed = fixed_point_latent(vae->config());
    EXPECT_EQ(fixed, 28);
    OwnedTensor picture = wave({3, 1, 16, 8});
    int64_t frames = 1 + 4 * (fixed + 2);
    OwnedTensor video = zeros({3, frames, 16, 8});
    for (int64_t f = 0; f < frames; ++f) put_planes(picture.tensor, video.tensor, f);
    OwnedTensor z = encode(*vae, video.tensor, {frames});  // [16, fixed + 3, 2, 1]
    StaticImageLatents still = value_of(encode_static_image(*vae, budget_, picture.tensor.reshape({3, 16, 8})));
    ASSERT_EQ(still.first.tensor.shape, Shape({16, kPrimingLatents, 2, 1}));
    ASSERT_EQ(still.last.tensor.shape, Shape({16, kMotionLatents, 2, 1}));
    OwnedTensor first = zeros(still.first.tensor.shape), latent = zeros({16, 1, 2, 1}), wanted = zeros({16, 1, 2, 1});
    get_planes(z.tensor, 0, first.tensor);
    EXPECT_TRUE(same_bits(first.tensor, still.first.tensor));
    get_planes(z.tensor, fixed, wanted.tensor);
    for (int64_t i : {fixed + 1, fixed + 2}) {
      get_planes(z.tensor, i, latent.tensor);
      EXPECT_TRUE(same_bits(latent.tensor, wanted.tensor)) << i;
    }
    for (int64_t i = 0; i < kMotionLatents; ++i) {
      get_planes(still.last.tensor, i, latent.tensor);
      EXPECT_TRUE(same_bits(latent.tensor, wanted.tensor)) << i;
    }
  }
}

TEST_F(WanVaeTest, ObserverSeesModulesInRunningOrder) {
  auto vae = load();
  auto stream = value_of(VaeDecodeStream::open(*vae, budget_, 2, 2));
  OwnedTensor z = wave({16, 1, 2, 2}), frames = zeros({4, 16, 16, 3});
  std::vector<std::string> names;
  Shape head;
  stream->set_observer([&](const char* name, const Tensor& value) {
    names.push_back(name);
    head = value.shape;
  });
  ASSERT_TRUE(stream->step(z.tensor, frames.tensor).ok());
  ASSERT_EQ(names.size(), 2u + 3 + 15 + 1);
  EXPECT_EQ(names[0], "conv2");
  EXPECT_EQ(names[3], "middle.1");
  EXPECT_EQ(names[5], "upsamples.0");
  EXPECT_EQ(names.back(), "head");
  EXPECT_EQ(head, Shape({1, 16, 16, 3}));
}

}  // namespace
}  // namespace liveavatar
