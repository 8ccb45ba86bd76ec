// Whole jobs with narrower weights, keys and values, and with the video model out of a GGUF file.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "ops/make_backend.h"
#include "session/checkpoint.h"
#include "support/gguf_writer.h"
#include "support/mini.h"
#include "support/temp_dir.h"
#include "weights/find_parts.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
// The frames of two blocks; empty after a failure, which is reported.
std::vector<uint8_t> frames(const EngineOptions& options) {
  std::vector<uint8_t> rgb;
  auto engine = Engine::load(options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  if (!engine.ok()) return rgb;
  Status status = (*engine)->generate(mini_job(), [&](const VideoChunk& b) {
    rgb.insert(rgb.end(), b.rgb, b.rgb + b.frames * b.height * b.width * 3);
    return true;
  });
  EXPECT_TRUE(status.ok()) << status.message();
  return rgb;
}

double mean_difference(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  EXPECT_EQ(a.size(), b.size());
  double sum = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) sum += std::abs(int(a[i]) - int(b[i]));
  return sum / double(a.size());
}

TEST(Narrow, FramesStayNearBf16AndDoNotDependOnThreads) {
  std::vector<uint8_t> whole = frames(mini_options());
  for (auto [weights, kv, bound] :
       {std::tuple("int8", "", 1.0), {"fp8", "", 2.0}, {"q4", "", 6.0}, {"", "int8", 1.0}, {"", "fp8", 2.0}}) {
    EngineOptions o = mini_options();
    o.weights_dtype = *parse_weights_type(weights);
    o.kv_dtype = *parse_kv_type(kv);
    std::vector<uint8_t> narrow = frames(o);
    double difference = mean_difference(narrow, whole);
    EXPECT_GT(difference, 0) << weights << kv;
    EXPECT_LT(difference, bound) << weights << kv;
    o.threads = 3;
    EXPECT_EQ(frames(o), narrow) << weights << kv;
  }
  EngineOptions o = mini_options();
  o.weights_dtype = WeightsType::kBf16;
  o.kv_dtype = KvType::kBf16;
  EXPECT_EQ(frames(o), whole);
  EXPECT_EQ(parse_kv_type("q4").status().code(), ErrorCode::kInvalidArgument);
}

// Activations in 8 bits beside int8 weights: other bits than weights alone, near them, the same on any threads.
TEST(Narrow, Int8ProductsNeedInt8WeightsAndStayNear) {
  EngineOptions o = mini_options();
  o.int8_products = true;
  for (const char* weights : {"", "bf16", "fp8", "q4"}) {
    o.weights_dtype = *parse_weights_type(weights);
    EXPECT_EQ(Engine::load(o).status().code(), ErrorCode::kInvalidArgument) << weights;
  }
  o.weights_dtype = WeightsType::kInt8;
  std::vector<uint8_t> fast = frames(o);
  o.threads = 3;
  EXPECT_EQ(frames(o), fast);
  o.int8_products = false;
  std::vector<uint8_t> plain = frames(o);
  EXPECT_LT(mean_difference(fast, plain), 1);
  // Elsewhere the flag changes nothing.
  EXPECT_EQ(fast != plain, (*make_backend("cpu", {.threads = 1, .int8_products = true}))->int8_products());
  o.int8_products = true;
  o.device = "reference";
  EXPECT_TRUE(Engine::load(o).ok());
}

// The mini checkpoint's video model as a GGUF file, every tensor in its own type: not a bit differs. With large
// matrices in Q8_0, made here, frames are near.
class GgufModelTest : public ::testing::Test {
 protected:
  static std::string q8_0(const std::vector<float>& values) {
    std::string bytes;
    for (size_t first = 0; first < values.size(); first += 32) {
      float largest = 0;
      for (size_t i = first; i < first + 32; ++i) largest = std::max(largest, std::fabs(values[i]));
      f16 d = to_f16(largest / 127);
      bytes += GgufWriter::bytes(d);
      for (size_t i = first; i < first + 32; ++i)
        bytes += static_cast<char>(largest == 0 ? 0 : std::lround(std::clamp(values[i] / to_f32(d), -127.f, 127.f)));
    }
    return bytes;
  }
  void write(const std::string& prefix, bool quantised) {
    TensorSourcePtr source = *open_part(find_video_model({.folder = kSource + "/models/mini"})->dit, Part::kVideoModel);
    GgufWriter writer;
    for (const auto& [name, info] : source->tensors()) {
      std::vector<uint64_t> shape;
      for (int i = 0; i < info.shape.rank(); ++i) shape.push_back(static_cast<uint64_t>(info.shape[i]));
      std::string raw(static_cast<size_t>(info.shape.elements()) * dtype_bytes(info.dtype), '\0');
      ASSERT_TRUE(source->read(name, raw.data()).ok());
      bool blocks = quantised && shape.size() == 2 && shape[1] % 32 == 0 && name.starts_with("blocks.");
      if (blocks) {
        std::vector<float> values(static_cast<size_t>(info.shape.elements()));
        convert_to_f32(raw.data(), info.dtype, values.data(), info.shape.elements());
        writer.tensor(prefix + name, shape, 8, q8_0(values));
      } else {
        uint32_t type = info.dtype == DType::kF32 ? 0 : (info.dtype == DType::kF16 ? 1 : 30);
        writer.tensor(prefix + name, shape, type, raw);
      }
    }
    std::ofstream(path_, std::ios::binary) << writer.file();
  }
  TempDir dir_;
  const fs::path path_ = dir_ / "dit.gguf";
};

TEST_F(GgufModelTest, GivesTheFramesOfTheFoldersModel) {
  std::vector<uint8_t> want = frames(mini_options());
  EngineOptions o = mini_options();
  o.dit_path = path_.string();
  write("", false);
  EXPECT_EQ(frames(o), want);
  write("model.diffusion_model.", true);
  std::vector<uint8_t> near = frames(o);
  EXPECT_NE(near, want);
  EXPECT_LT(mean_difference(near, want), 1);
  // Packed, and with narrow weights: as the folder's packed so.
  fs::path file = dir_ / "dit.packed";
  o.weights_dtype = WeightsType::kInt8;
  EXPECT_TRUE(convert_dit(o, file.string(), {}).ok());
  EngineOptions packed = mini_options();
  packed.weights_dtype = WeightsType::kInt8;
  packed.packed_dit = file.string();
  EXPECT_EQ(frames(packed), frames(o));
  std::vector<PartReport> parts = inspect_parts({.folder = o.checkpoint_dir, .dit = o.dit_path});
  EXPECT_EQ(parts[0].problem, "");
  EXPECT_NE(parts[0].dtypes.find("Q8_0"), std::string::npos) << parts[0].dtypes;
  EXPECT_EQ(parts[0].path, o.dit_path);
  EXPECT_LT(parts[0].bytes, static_cast<int64_t>(fs::file_size(path_)));
}

}  // namespace
}  // namespace liveavatar
