// Adapters in every naming that occurs, merged into an f32 base and into the same base rounded to bf16.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <stdexcept>

#include "golden.h"
#include "weights/lora.h"

namespace liveavatar::golden {
namespace {

TensorSourcePtr must_open(const std::string& path) {
  auto source = open_safetensors(path);
  if (!source.ok()) throw std::runtime_error(source.status().message());
  return *source;
}

std::vector<float> read(const TensorSource& source, const std::string& name) {
  const TensorInfo& info = source.tensors().at(name);
  std::vector<char> raw(static_cast<size_t>(info.shape.elements()) * dtype_bytes(info.dtype));
  Status status = source.read(name, raw.data());
  if (!status.ok()) throw std::runtime_error(status.message());
  std::vector<float> values(static_cast<size_t>(info.shape.elements()));
  convert_to_f32(raw.data(), info.dtype, values.data(), info.shape.elements());
  return values;
}

void round_to_bf16(std::vector<float>& values) {
  for (float& v : values) v = to_f32(to_bf16(v));
}

// The base with every tensor rounded to bf16.
class Rounded : public TensorSource {
 public:
  explicit Rounded(TensorSourcePtr base) : base_(std::move(base)), tensors_(base_->tensors()) {
    for (auto& [name, info] : tensors_) info.dtype = DType::kBF16;
  }
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return base_->where(); }
  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    std::vector<float> values = golden::read(*base_, name);
    convert_from_f32(values.data() + part.first, target, DType::kBF16, part.count);
    return {};
  }

 private:
  TensorSourcePtr base_;
  std::map<std::string, TensorInfo> tensors_;
};

}  // namespace

void check_lora(const Golden& golden) {
  bool half = golden.dtype == DType::kBF16;
  for (const auto& call : golden.calls()) {
    std::string adapter = call.at("in").at("adapter");
    TensorSourcePtr base = must_open(golden.path(call.at("in").at("base")));
    if (half) base = std::make_shared<Rounded>(base);
    double alpha = call.at("args").at("scale").get<double>() * call.at("args").at("rank").get<double>();
    auto merge = merge_lora(base, {.source = must_open(golden.path(adapter)), .alpha = alpha});
    if (!golden.ok(adapter, merge.status())) continue;
    TensorSourcePtr want = must_open(golden.path(call.at("out").at(half ? "bf16" : "f32")));
    int changed = 0, wrong = 0;
    double worst = 0;
    for (const auto& [name, info] : want->tensors()) {
      std::vector<float> got = read(*merge->source, name), expected = read(*want, name), before = read(*base, name);
      if (half) round_to_bf16(got);
      changed += got != before;
      float largest = 0, error = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        largest = std::max(largest, std::fabs(expected[i]));
        error = std::max(error, std::fabs(got[i] - expected[i]));
      }
      worst = std::max<double>(worst, largest > 0 ? error / largest : error);
      wrong += half ? got != expected : error > 1e-4f * largest;
    }
    golden.exact(adapter, wrong == 0 && changed == call.at("args").at("changed_tensors"),
                 std::to_string(wrong) + " tensors wrong, " + std::to_string(changed) + " changed, worst " +
                     std::to_string(worst));
  }
}

}  // namespace liveavatar::golden
