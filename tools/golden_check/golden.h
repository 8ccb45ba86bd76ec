// golden_check compares the engine with tensors that the Python original computed (tests/goldens/README.md).
// Each kind of golden has a file kind_<kind>.cc with one function that runs the calls of golden.json.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/memory.h"
#include "session/models.h"
#include "weights/tensor_source.h"

namespace liveavatar::golden {

// Counts and prints one line a tensor: "ok   <dir> <name>  max 1.2e-06 of 1.0e-04  rms ...".
class Report {
 public:
  void line(bool ok, const std::string& name, const std::string& detail);
  // How far a tensor is off: a miss where it is beyond its limits, unless nothing is held to limits ("far").
  void figure(bool within, const std::string& name, const std::string& detail);
  bool measuring = false;
  bool bits = false;  // a checksum of every tensor beside its figures
  int passed() const { return passed_; }
  int failed() const { return failed_; }

 private:
  int passed_ = 0, failed_ = 0;
};

// One golden folder and how it is to be run.
struct Golden {
  std::string dir;
  nlohmann::json json;
  TensorSourcePtr io;  // io.safetensors; null where the folder has none
  Backend* backend = nullptr;
  Budget* budget = nullptr;        // of the backend's device
  DeviceSource* source = nullptr;  // for whole jobs, instead of `device`; null: that device
  std::string device;
  DType dtype = DType::kF32;
  std::string weights_dtype, kv_dtype;  // of the video model, as the flags of `generate`
  bool int8_products = false;
  EngineOptions ranks;  // of whole jobs: devices and how the video is dealt to them
  Report* report = nullptr;

  const nlohmann::json& calls() const { return json.at("calls"); }
  const nlohmann::json& config() const { return json.at("config"); }
  std::string path(const std::string& file) const { return dir + "/" + file; }

  // "a.wav+b.wav" of this folder, as GenerateRequest::audio.
  std::string voices(const std::string& audio) const;

  // Inputs from io.safetensors. Missing names end the folder with a failure (they throw std::runtime_error, caught by
  // main).
  std::vector<float> f32(const std::string& name) const;
  std::vector<int32_t> i32(const std::string& name) const;  // i64, i32, u8 or bool tensors
  Shape shape(const std::string& name) const;
  // f32 copy of an input on the backend's device.
  OwnedTensor tensor(const std::string& name) const;

  // got against io tensor `name` under the tolerances of this folder and dtype:
  // json.tolerance first, else f32: 1e-4 of max|want|; bf16: 2.5 x max and 1.5 x rms of json.bf16[name]
  // (json.bf16 lacks the name: the f32 rule).
  void compare(const std::string& name, std::span<const float> got) const;
  void compare(const std::string& name, const Tensor& got) const;  // f32 or bf16, of any device
  // The values of a tensor of the host or of the backend's device.
  std::vector<float> values(const Tensor& tensor) const;
  // As compare, for one row range or a differently named want.
  void compare_values(const std::string& name, std::span<const float> got, std::span<const float> want,
                      std::optional<double> bf16_rms = {}) const;
  // As compare, of a model's output: where the folder states nothing for bf16, the golden `generate`'s limit holds for
  // the same quantity.
  void compare_model(const std::string& name, std::span<const float> got, double bf16_rms) const;
  // Exact things: ids, sizes, texts.
  void exact(const std::string& name, bool equal, const std::string& detail = "") const;
  // A Status that should be ok; false (and a failure line) if it is not.
  bool ok(const std::string& name, const Status& status) const;
};

// As the golden `generate` states them for bf16.
constexpr double kAudioFeaturesRms = 0.05, kPoseLatentsRms = 0.03;

using KindFunction = void (*)(const Golden&);
using Kinds = std::map<std::string, KindFunction>;  // by golden.json's `kind`

// The program: its exit code. What the folders' kinds need is linked by whoever names them.
int run(int argc, char** argv, const Kinds& kinds);

// One per kind_<kind>.cc.
void check_schedule(const Golden&);
void check_image_prep(const Golden&);
void check_tokenizer(const Golden&);
void check_umt5(const Golden&);
void check_wav2vec2(const Golden&);
void check_wan_vae(const Golden&);
void check_torch_pth(const Golden&);
void check_lora(const Golden&);
void check_s2v_dit(const Golden&);
void check_generate(const Golden&);
void check_checkpoint_files(const Golden&);
void check_solvers(const Golden&);
void check_speakers(const Golden&);
void check_pose(const Golden&);

}  // namespace liveavatar::golden
