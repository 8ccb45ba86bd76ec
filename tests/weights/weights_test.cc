// Readers against broken files, the loader's errors, the checkpoint folder.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <random>

#include "backend/reference/make_reference_backend.h"
#include "ops/make_backend.h"
#include "support/temp_dir.h"
#include "weights/loader.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

class WeightsTest : public ::testing::Test {
 protected:
  void SetUp() override { backend_ = *make_reference_backend({.threads = 1}); }

  std::string write(const std::string& name, const std::string& bytes) {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name, std::ios::binary) << bytes;
    return dir_.file(name);
  }
  // A safetensors file from a header and its data.
  std::string write_safetensors(const std::string& name, const std::string& header, const std::string& data) {
    uint64_t length = header.size();
    return write(name, std::string(reinterpret_cast<char*>(&length), 8) + header + data);
  }
  static std::string floats(std::initializer_list<float> values) {
    return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(float)};
  }
  // The error of opening; the test fails if there is none.
  static std::string error_of(const Expected<TensorSourcePtr>& source) {
    EXPECT_FALSE(source.ok());
    return source.status().message();
  }

  TempDir dir_;
  Budget budget_;
  std::unique_ptr<Backend> backend_;
};

constexpr const char* kTwo =
    R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[],"data_offsets":[8,12]}})";

TEST_F(WeightsTest, ReadsTensorsOfAnyRank) {
  auto source = open_safetensors(write_safetensors("x.safetensors", kTwo, floats({1, 2, 3})));
  ASSERT_TRUE(source.ok()) << source.status().message();
  float values[2];
  ASSERT_TRUE((*source)->read("a", values).ok());
  EXPECT_EQ(values[1], 2);
  EXPECT_EQ((*source)->tensors().at("b").shape.rank(), 0);
}

TEST_F(WeightsTest, NamesEveryContradictionInASafetensorsHeader) {
  struct {
    const char* header;
    const char* says;
  } cases[] = {
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "does not match its shape"},
      {R"({"a":{"dtype":"F32","shape":[200],"data_offsets":[0,800]}})", "truncated"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "does not match"},
      {R"({"a":{"dtype":"F8_X","shape":[2],"data_offsets":[0,8]}})", "F8_X"},
      {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "shape"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}})", "absurd shape"},
      {R"({"a":{"dtype":"F32"}})", "malformed"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       "twice"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "tensors a and b overlap"},
      {R"({"a":)", "not JSON"},
      {R"([1])", "not JSON"},
  };
  for (const auto& c : cases) {
    std::string message = error_of(open_safetensors(write_safetensors("lie.safetensors", c.header, floats({1, 2, 3}))));
    EXPECT_NE(message.find(c.says), std::string::npos) << message;
    EXPECT_NE(message.find("lie.safetensors"), std::string::npos) << message;
  }
  EXPECT_NE(error_of(open_safetensors(write("empty.safetensors", ""))).find("empty.safetensors"), std::string::npos);
  EXPECT_NE(error_of(open_safetensors(write("html.safetensors", "<html>not a model</html>"))).find("a web page"),
            std::string::npos);
  EXPECT_EQ(open_safetensors(dir_.file("nowhere")).status().code(), ErrorCode::kNotFound);
}

TEST_F(WeightsTest, ChecksShardsAgainstTheirIndex) {
  write_safetensors("m-1.safetensors", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", floats({1, 2}));
  write("m.safetensors.index.json", R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  EXPECT_NE(error_of(open_safetensors_folder(dir_.string(), "m")).find("m-2.safetensors"), std::string::npos);
  write_safetensors("m-2.safetensors", R"({"c":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", floats({3}));
  EXPECT_NE(error_of(open_safetensors_folder(dir_.string(), "m")).find("tensor b"), std::string::npos);
  write_safetensors("m-2.safetensors", R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", floats({3}));
  EXPECT_TRUE(open_safetensors_folder(dir_.string(), "m").ok());
  write("m.safetensors.index.json", R"({"weight_map":{"a":"../../etc/passwd"}})");
  EXPECT_NE(error_of(open_safetensors_folder(dir_.string(), "m")).find("not a file name"), std::string::npos);
}

TEST_F(WeightsTest, TheLoaderNamesTheTensorInEveryError) {
  float nan = std::numeric_limits<float>::quiet_NaN();
  auto source = *open_safetensors(write_safetensors(
      "x.safetensors",
      R"({"a.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"bad":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
      floats({1, 2, nan})));
  struct {
    std::function<void(WeightLoader&)> load;
    const char* says;
  } cases[] = {
      {[](WeightLoader& l) { l.linear("missing", 1, 2); }, "missing.weight is missing"},
      {[](WeightLoader& l) { l.matrix("a.weight", 2, 2); }, "a.weight has shape [1, 2], wanted [2, 2]"},
      {[](WeightLoader& l) { l.vector("bad", {1}); }, "bad holds NaN"},
  };
  for (const auto& c : cases) {
    WeightLoader loader(*source, *backend_, budget_, MemoryCategory::kWeights, DType::kF32);
    c.load(loader);
    EXPECT_NE(loader.status().message().find(c.says), std::string::npos) << loader.status().message();
  }
  WeightLoader loader(*source, *backend_, budget_, MemoryCategory::kWeights, DType::kF32);
  loader.matrix("a.weight", 1, 2);
  EXPECT_EQ(loader.unused(), std::vector<std::string>{"bad"});
}

TEST_F(WeightsTest, TheLoaderStaysInsideItsBudget) {
  Budget small(4096);
  auto source = *open_safetensors(write_safetensors("x.safetensors", kTwo, floats({1, 2, 3})));
  WeightLoader loader(*source, *backend_, small, MemoryCategory::kText, DType::kF32);
  loader.vector("a", {2});
  EXPECT_EQ(loader.status().code(), ErrorCode::kOutOfMemory);
}

// What a tensor passes through on its way is charged, and far smaller than the tensor; the packed bytes are those of
// the whole matrix packed at once. A sizer counts the same bytes without a file.
TEST_F(WeightsTest, ALargeMatrixIsPackedInPieces) {
  constexpr int64_t kRows = 3001, kColumns = 1500;
  std::vector<float> values(kRows * kColumns);
  for (size_t i = 0; i < values.size(); ++i) values[i] = float(i % 1013) - 500;
  std::string header = R"({"m":{"dtype":"F32","shape":[3001,1500],"data_offsets":[0,18006000]}})";
  auto source = *open_safetensors(write_safetensors(
      "m.safetensors", header, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}));
  for (const char* device : {"cpu", "reference"}) {
    auto backend = make_backend(device, {.threads = 1});
    ASSERT_TRUE(backend.ok()) << backend.status().message();
    Budget budget, counting{Budget::DryRun()};
    WeightLoader loader(*source, **backend, budget, MemoryCategory::kText, DType::kBF16);
    LinearWeight matrix = loader.matrix("m", kRows, kColumns);
    ASSERT_TRUE(loader.status().ok()) << loader.status().message();
    std::vector<char> whole((*backend)->packed_linear_bytes(kRows, kColumns, DType::kBF16));
    (*backend)->pack_linear(Tensor(values.data(), {kRows, kColumns}, DType::kF32), DType::kBF16, whole.data());
    EXPECT_EQ(std::memcmp(whole.data(), matrix.data, whole.size()), 0) << device;
    EXPECT_LT(budget.peak_bytes(), whole.size() + (8u << 20));

    WeightSizer sizer(**backend, counting, MemoryCategory::kText, DType::kBF16);
    sizer.matrix("m", kRows, kColumns);
    EXPECT_TRUE(sizer.status().ok());
    EXPECT_EQ(counting.peak_bytes(), budget.peak_bytes());
  }
}

// Quantised piece by piece, with no whole f32 copy, to the bytes of the matrix packed at once.
TEST_F(WeightsTest, ALargeMatrixIsQuantisedInPieces) {
  constexpr int64_t kRows = 2003, kColumns = 1500;
  std::vector<float> values(kRows * kColumns);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(float(i % 1013));
  auto raw = [](const float* data, size_t n) { return std::string(reinterpret_cast<const char*>(data), n * 4); };
  std::string header = R"({"m.bias":{"dtype":"F32","shape":[2003],"data_offsets":[12018000,12026012]},)"
                       R"("m.weight":{"dtype":"F32","shape":[2003,1500],"data_offsets":[0,12018000]}})";
  auto source = *open_safetensors(
      write_safetensors("q.safetensors", header, raw(values.data(), values.size()) + raw(values.data(), kRows)));
  for (DType dtype : {DType::kI8, DType::kF8E4M3, DType::kQ4}) {
    auto backend = *make_backend("cpu", {.threads = 1});
    Budget budget, counting{Budget::DryRun()};
    WeightLoader loader(*source, *backend, budget, MemoryCategory::kWeights, {DType::kF32, dtype});
    LinearWeight matrix = loader.linear("m", kRows, kColumns, dtype);
    ASSERT_TRUE(loader.status().ok()) << loader.status().message();
    EXPECT_EQ(matrix.dtype, dtype);
    std::vector<char> whole(backend->packed_linear_bytes(kRows, kColumns, dtype));
    backend->pack_linear(Tensor(values.data(), {kRows, kColumns}, DType::kF32), dtype, whole.data());
    EXPECT_EQ(std::memcmp(whole.data(), matrix.data, whole.size()), 0) << dtype_name(dtype);
    EXPECT_LT(budget.peak_bytes(), whole.size() + (8u << 20));
    WeightSizer sizer(*backend, counting, MemoryCategory::kWeights, {DType::kF32, dtype});
    sizer.linear("m", kRows, kColumns, dtype);
    EXPECT_EQ(counting.peak_bytes(), budget.peak_bytes());
  }
}

// One description, three visitors: what was packed into a page is found in it again, and its size is known without it.
TEST_F(WeightsTest, ViewsLieWhereTheLoaderPacked) {
  auto source = *open_safetensors(write_safetensors(
      "x.safetensors",
      R"({"a.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"a.bias":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
      floats({1, 2, 3})));
  auto describe = [](WeightVisitor& visitor) {
    std::vector<const void*> places{visitor.vector("a.bias", {1}).address()};
    LinearWeight w = visitor.linear("a", 1, 2, visitor.types().large);
    places.insert(places.end(), {w.data, w.bias.address()});
    EXPECT_EQ(w.dtype, DType::kBF16);
    return places;
  };
  const WeightTypes types{DType::kF32, DType::kBF16};
  WeightViews sizes(*backend_, types);
  EXPECT_EQ(describe(sizes), std::vector<const void*>(3, nullptr));
  Buffer page = *Buffer::allocate(budget_, MemoryCategory::kWeights, sizes.bytes());
  WeightLoader loader(*source, *backend_, budget_, MemoryCategory::kWeights, types);
  loader.place_in(PackedMemory(page));
  const std::vector<const void*> packed = describe(loader);
  ASSERT_TRUE(loader.status().ok()) << loader.status().message();
  EXPECT_EQ(packed.front(), page.data());
  WeightViews views(*backend_, types, PackedMemory(page));
  EXPECT_EQ(describe(views), packed);
  EXPECT_EQ(views.bytes(), sizes.bytes());
  EXPECT_EQ(views.asked(), loader.asked());
  EXPECT_TRUE(loader.take_buffers().empty());
}

// Files with random damage are read or refused, never more than that. (The sanitizer build watches.)
// Whole and in pieces, and what that takes is said through the sources on top.
TEST_F(WeightsTest, StridedTensorsAreReadByPart) {
  auto views = open_torch(std::string(LA_SOURCE_DIR) + "/tests/goldens/vae_pth/types_and_views.pth");
  ASSERT_TRUE(views.ok()) << views.status().message();
  EXPECT_GT((*views)->scratch_bytes(), 0u);
  for (const auto& [name, info] : (*views)->tensors()) {
    const int64_t elements = info.shape.elements();
    const size_t item = dtype_bytes(info.dtype);
    std::string whole(static_cast<size_t>(elements) * item, '\0'), pieces = whole;
    ASSERT_TRUE((*views)->read(name, whole.data()).ok()) << name;
    for (int64_t first = 0; first < elements; first += 3) {
      TensorPart part{first, std::min<int64_t>(3, elements - first)};
      ASSERT_TRUE((*views)->read_part(name, part, pieces.data() + static_cast<size_t>(first) * item).ok()) << name;
    }
    EXPECT_TRUE(whole == pieces) << name;
  }
}

TEST_F(WeightsTest, DamagedFilesNeverCrash) {
  const std::string goldens = std::string(LA_SOURCE_DIR) + "/tests/goldens/";
  std::mt19937 random(7);
  for (const char* name : {"vae_pth/wrapper.pth", "vae_pth/types_and_views.pth", "lora/adapter_bf16.safetensors"}) {
    std::ifstream file(goldens + name, std::ios::binary);
    std::string good((std::istreambuf_iterator<char>(file)), {});
    ASSERT_FALSE(good.empty());
    int read = 0;
    for (int round = 0; round < 300; ++round) {
      std::string bytes = good;
      for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
      if (round % 3 == 0) bytes.resize(random() % bytes.size());
      auto source = open_tensors(write(fs::path(name).filename(), bytes));
      if (!source.ok()) continue;
      ++read;
      for (const auto& [tensor, info] : (*source)->tensors()) {
        if (info.shape.elements() > (1 << 20)) continue;
        std::vector<char> data(static_cast<size_t>(info.shape.elements()) * dtype_bytes(info.dtype));
        (void)(*source)->read(tensor, data.data()).ok();
      }
    }
    EXPECT_LT(read, 300) << name;
  }
}

}  // namespace
}  // namespace liveavatar
