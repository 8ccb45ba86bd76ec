#include "golden.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "ops/transfer.h"

namespace liveavatar::golden {

void Report::line(bool ok, const std::string& name, const std::string& detail) {
  std::printf("%-4s %s  %s\n", ok ? "ok" : "FAIL", name.c_str(), detail.c_str());
  (ok ? passed_ : failed_)++;
}

void Report::figure(bool within, const std::string& name, const std::string& detail) {
  if (within || !measuring) return line(within, name, detail);
  std::printf("far  %s  %s\n", name.c_str(), detail.c_str());
  passed_++;
}

namespace {

struct Limits {
  double max, rms;  // of max|want| and rms(want); infinite: no limit
};

Limits limits_for(const Golden& golden, const std::string& name, std::optional<double> bf16_rms) {
  const double none = INFINITY;
  const char* dtype = golden.dtype == DType::kBF16 ? "bf16" : "f32";
  const nlohmann::json& json = golden.json;
  if (json.contains("tolerance") && json["tolerance"].contains(dtype) && json["tolerance"][dtype].contains(name)) {
    const nlohmann::json& stated = json["tolerance"][dtype][name];
    return {stated.value("max", none), stated.value("rms", none)};
  }
  if (golden.dtype == DType::kBF16 && json.contains("bf16") && json["bf16"].contains(name)) {
    const nlohmann::json& theirs = json["bf16"][name];
    return {2.5 * theirs.at("max").get<double>(), 1.5 * theirs.at("rms").get<double>()};
  }
  if (golden.dtype == DType::kBF16 && bf16_rms) return {none, *bf16_rms};
  return {1e-4, none};
}

// FNV-1a over the values' bytes.
std::string checksum(std::span<const float> values) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (std::byte byte : std::as_bytes(values)) hash = (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3u;
  char text[20];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

std::vector<char> raw(const Golden& golden, const std::string& name, TensorInfo& info) {
  if (!golden.io) throw std::runtime_error("this folder has no io.safetensors");
  auto it = golden.io->tensors().find(name);
  if (it == golden.io->tensors().end()) throw std::runtime_error("io.safetensors has no tensor " + name);
  info = it->second;
  std::vector<char> bytes(static_cast<size_t>(info.shape.elements()) * dtype_bytes(info.dtype));
  Status status = golden.io->read(name, bytes.data());
  if (!status.ok()) throw std::runtime_error(status.message());
  return bytes;
}

}  // namespace

std::string Golden::voices(const std::string& audio) const {
  std::string joined;
  for (size_t begin = 0; begin <= audio.size();) {
    size_t end = std::min(audio.find('+', begin), audio.size());
    if (!joined.empty()) joined += '+';
    joined += path(audio.substr(begin, end - begin));
    begin = end + 1;
  }
  return joined;
}

std::vector<float> Golden::f32(const std::string& name) const {
  TensorInfo info;
  std::vector<char> bytes = raw(*this, name, info);
  std::vector<float> values(static_cast<size_t>(info.shape.elements()));
  convert_to_f32(bytes.data(), info.dtype, values.data(), info.shape.elements());
  return values;
}

std::vector<int32_t> Golden::i32(const std::string& name) const {
  TensorInfo info;
  std::vector<char> bytes = raw(*this, name, info);
  std::vector<int32_t> values(static_cast<size_t>(info.shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    int64_t wide = 0;  // little-endian integers of any width; no negative ones narrower than i64 occur but i32
    std::memcpy(&wide, bytes.data() + i * dtype_bytes(info.dtype), dtype_bytes(info.dtype));
    values[i] = static_cast<int32_t>(wide);
  }
  return values;
}

Shape Golden::shape(const std::string& name) const {
  auto it = io->tensors().find(name);
  if (it == io->tensors().end()) throw std::runtime_error("io.safetensors has no tensor " + name);
  return it->second.shape;
}

OwnedTensor Golden::tensor(const std::string& name) const {
  std::vector<float> values = f32(name);
  auto owned = OwnedTensor::allocate(*budget, MemoryCategory::kRuntime, shape(name), DType::kF32);
  if (!owned.ok()) throw std::runtime_error(owned.status().message());
  std::copy(values.begin(), values.end(), Upload(*backend, owned->tensor).f32());
  return *std::move(owned);
}

void Golden::compare(const std::string& name, std::span<const float> got) const {
  std::vector<float> want = f32(name);
  compare_values(name, got, want);
}

void Golden::compare(const std::string& name, const Tensor& got) const { compare(name, values(got)); }

std::vector<float> Golden::values(const Tensor& tensor) const {
  const Download host(*backend, tensor);
  std::vector<float> all(static_cast<size_t>(tensor.elements()));
  convert_to_f32(host.tensor().address(), tensor.dtype, all.data(), tensor.elements());
  return all;
}

void Golden::compare_values(const std::string& name, std::span<const float> got, std::span<const float> want,
                            std::optional<double> bf16_rms) const {
  if (got.size() != want.size()) {
    report->line(false, name, "has " + std::to_string(got.size()) + " elements, wanted " + std::to_string(want.size()));
    return;
  }
  double worst = 0, largest = 0, error_squares = 0, want_squares = 0;
  bool finite = true;
  for (size_t i = 0; i < got.size(); ++i) {
    double error = std::fabs(double(got[i]) - double(want[i]));
    finite = finite && std::isfinite(got[i]);
    worst = std::max(worst, error);
    largest = std::max(largest, std::fabs(double(want[i])));
    error_squares += error * error;
    want_squares += double(want[i]) * double(want[i]);
  }
  double max = largest > 0 ? worst / largest : worst;
  double rms = want_squares > 0 ? std::sqrt(error_squares / want_squares) : std::sqrt(error_squares);
  Limits limits = limits_for(*this, name, bf16_rms);
  char text[160];
  std::snprintf(text, sizeof(text), "max %.2e of %.2e  rms %.2e of %.2e%s", max, limits.max, rms, limits.rms,
                finite ? "" : "  NOT FINITE");
  std::string detail = report->bits ? text + (" bits " + checksum(got)) : text;
  if (!finite) return report->line(false, name, detail);
  report->figure(max <= limits.max && rms <= limits.rms, name, detail);
}

void Golden::compare_model(const std::string& name, std::span<const float> got, double bf16_rms) const {
  compare_values(name, got, f32(name), bf16_rms);
}

void Golden::exact(const std::string& name, bool equal, const std::string& detail) const {
  report->line(equal, name, equal ? "exact" : "differs " + detail);
}

bool Golden::ok(const std::string& name, const Status& status) const {
  if (!status.ok()) report->line(false, name, status.message());
  return status.ok();
}

}  // namespace liveavatar::golden
