// A small base model and adapters in memory, and merges computed element by element.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>

#include "weights/lora.h"

namespace liveavatar {

// Tensors in memory, held in any float type or I64.
class MemorySource : public TensorSource {
 public:
  explicit MemorySource(std::string where) : where_(std::move(where)) {}
  MemorySource& add(const std::string& name, Shape shape, const std::vector<float>& values, DType dtype = DType::kF32) {
    LA_CHECK(shape.elements() == static_cast<int64_t>(values.size()));
    tensors_[name] = {shape, dtype};
    std::vector<char>& raw = raw_[name];
    raw.resize(values.size() * dtype_bytes(dtype));
    if (values.empty()) return *this;
    if (dtype == DType::kI64) {
      for (size_t i = 0; i < values.size(); ++i) reinterpret_cast<int64_t*>(raw.data())[i] = std::lround(values[i]);
    } else {
      convert_from_f32(values.data(), raw.data(), dtype, shape.elements());
    }
    return *this;
  }
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return where_; }
  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    const size_t item = dtype_bytes(tensors_.at(name).dtype);
    LA_CHECK(part.first >= 0 && part.first + part.count <= tensors_.at(name).shape.elements());
    std::memcpy(target, raw_.at(name).data() + static_cast<size_t>(part.first) * item,
                static_cast<size_t>(part.count) * item);
    return {};
  }

 private:
  std::string where_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::vector<char>> raw_;
};

class LoraFixture : public ::testing::Test {
 protected:
  using Values = std::vector<float>;

  void SetUp() override {
    base_ = std::make_shared<MemorySource>("base");
    for (const char* matrix :
         {"blocks.0.self_attn.q", "blocks.0.self_attn.o", "blocks.11.cross_attn.k", "blocks.11.ffn.0",
          "blocks.11.ffn.2", "audio_injector.injector.1.o", "text_embedding.0", "time_projection.1", "head.head"}) {
      base_->add(matrix + std::string(".weight"), {kRows, kColumns}, some(kRows * kColumns), DType::kBF16);
      base_->add(matrix + std::string(".bias"), {kRows}, some(kRows));
    }
    base_->add("patch_embedding.weight", {3, 2, 1, 2, 2}, some(24));
    base_->add("blocks.0.norm3.weight", {kColumns}, some(kColumns), DType::kF16);
    base_->add("blocks.0.norm3.bias", {kColumns}, some(kColumns));
    base_->add("blocks.0.modulation", {1, 6, 4}, some(24));
    base_->add("head.modulation", {1, 2, 4}, some(8));
  }

  // Values that bf16 and f16 hold exactly.
  Values some(int64_t count) {
    Values values(static_cast<size_t>(count));
    for (float& v : values) v = static_cast<float>(static_cast<int>(random_() % 33) - 16) / 8;
    return values;
  }
  static Values read(const TensorSource& source, const std::string& name, int64_t first = 0, int64_t count = -1) {
    const TensorInfo& info = source.tensors().at(name);
    if (count < 0) count = info.shape.elements() - first;
    std::vector<char> raw(static_cast<size_t>(count) * dtype_bytes(info.dtype));
    Status status = source.read_part(name, {first, count}, raw.data());
    EXPECT_TRUE(status.ok()) << status.message();
    Values values(static_cast<size_t>(count));
    convert_to_f32(raw.data(), info.dtype, values.data(), count);
    return values;
  }
  // [rows, inner] [inner, columns]
  static Values times(const Values& a, const Values& b, size_t inner) {
    size_t rows = a.size() / inner, columns = b.size() / inner;
    Values out(rows * columns);
    for (size_t i = 0; i < out.size(); ++i) {
      for (size_t k = 0; k < inner; ++k) out[i] += a[i / columns * inner + k] * b[k * columns + i % columns];
    }
    return out;
  }
  static Values plus(const Values& w, float factor, const Values& delta) {
    Values out = w;
    for (size_t i = 0; i < w.size(); ++i) out[i] += factor * delta[i];
    return out;
  }
  // Whole, and in every part: a part may begin and end within a row.
  static void expect_values(const TensorSource& source, const std::string& name, const Values& want) {
    const int64_t all = static_cast<int64_t>(want.size());
    for (int64_t first = 0; first < all; ++first) {
      const Values got = read(source, name, first);
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], want[static_cast<size_t>(first) + i], 1e-5) << name << " " << first << " " << i;
    }
    const Values got = read(source, name, 1, 2);
    ASSERT_TRUE(got[0] == read(source, name)[1] && got[1] == read(source, name)[2]) << name;
  }
  // `changed` are the only tensors that differ from the base's.
  void expect_merge(const LoraAdapter& adapter, const std::map<std::string, Values>& changed) {
    auto merge = merge_lora(base_, adapter);
    ASSERT_TRUE(merge.ok()) << merge.status().message();
    for (const auto& [name, info] : base_->tensors()) {
      EXPECT_EQ(merge->source->tensors().at(name).shape, info.shape);
      auto wanted = changed.find(name);
      if (wanted == changed.end()) {
        EXPECT_EQ(read(*merge->source, name), read(*base_, name)) << name;
      } else {
        expect_values(*merge->source, name, wanted->second);
      }
    }
  }
  std::string error_of(const LoraAdapter& adapter) {
    auto merge = merge_lora(base_, adapter);
    EXPECT_FALSE(merge.ok());
    EXPECT_EQ(merge.status().message().find('\n'), std::string::npos);
    return merge.status().message();
  }
  static std::shared_ptr<MemorySource> adapter(const std::string& where = "x.safetensors") {
    return std::make_shared<MemorySource>(where);
  }

  static constexpr int64_t kRows = 6, kColumns = 4;
  std::shared_ptr<MemorySource> base_;
  std::mt19937 random_{5};
};

}  // namespace liveavatar
