// Whole and streamed encode and decode, static images, and every module's output of one call each way.
#include <map>
#include <stdexcept>

#include "golden.h"
#include "models/wan_vae/static_image.h"
#include "models/wan_vae/video.h"
#include "models/wan_vae/wan_vae.h"
#include "ops/transfer.h"

namespace liveavatar::golden {

namespace {

using nlohmann::json;

template <typename T>
T value_of(Expected<T> expected) {
  if (!expected.ok()) throw std::runtime_error(expected.status().message());
  return *std::move(expected);
}

void must(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

// [F, H, W, C] of any float type -> [C, F, H, W] f32.
std::vector<float> channels_first(const Tensor& x) {
  int64_t channels = x.dim(3), places = x.elements() / channels;
  std::vector<float> last(static_cast<size_t>(x.elements())), first(last.size());
  convert_to_f32(x.address(), x.dtype, last.data(), x.elements());
  for (int64_t p = 0; p < places; ++p) {
    for (int64_t c = 0; c < channels; ++c) {
      first[static_cast<size_t>(c * places + p)] = last[static_cast<size_t>(p * channels + c)];
    }
  }
  return first;
}

// Module outputs by module name, a list of steps each. Steps are told apart by the first module of a half.
class Seen {
 public:
  VaeObserver observer() {
    return [this](const char* name, const Tensor& value) {
      const auto* bytes = static_cast<const char*>(value.address());
      steps_[name].push_back({std::vector<char>(bytes, bytes + value.bytes()), value.shape, value.dtype});
    };
  }
  std::vector<float> step(const std::string& name, size_t step) {
    if (!steps_.contains(name) || step >= steps_[name].size()) throw std::runtime_error("no module output " + name);
    Value& value = steps_[name][step];
    return channels_first({value.bytes.data(), value.shape, value.dtype});
  }
  // All steps joined along frames.
  std::vector<float> joined(const std::string& name) {
    if (!steps_.contains(name)) throw std::runtime_error("no module output " + name);
    std::vector<char> bytes;
    int64_t frames = 0;
    for (const Value& value : steps_[name]) {
      bytes.insert(bytes.end(), value.bytes.begin(), value.bytes.end());
      frames += value.shape[0];
    }
    const Value& one = steps_[name].front();
    return channels_first({bytes.data(), {frames, one.shape[1], one.shape[2], one.shape[3]}, one.dtype});
  }

 private:
  struct Value {
    std::vector<char> bytes;
    Shape shape;
    DType dtype;
  };
  std::map<std::string, std::vector<Value>> steps_;
};

class Check {
 public:
  explicit Check(const Golden& golden) : golden_(golden) {
    TensorSourcePtr source = value_of(open_safetensors(golden.path("weights.safetensors")));
    vae_ = value_of(WanVae::load(*source, *golden.backend, *golden.budget, golden.dtype));
    check_config();
  }

  void run() {
    for (const json& call : golden_.calls()) {
      std::string op = call.at("op");
      if (op == "encode" || op == "stream_encode") {
        encode(call, op == "stream_encode");
      } else if (op == "decode" || op == "stream_decode") {
        decode(call, op == "stream_decode");
      } else if (op == "encode_still") {
        still(call);
      } else {
        throw std::runtime_error("unknown op '" + op + "'");
      }
    }
  }

 private:
  void check_config() {
    const WanVaeConfig& got = vae_->config();
    const json& want = golden_.config();
    golden_.exact("config", got.dim == want.at("dim") && got.z_dim == want.at("z_dim") &&
                                got.dim_mult == want.at("dim_mult").get<std::vector<int64_t>>() &&
                                got.num_res_blocks == want.at("num_res_blocks") &&
                                got.temporal_downsample == want.at("temporal_downsample").get<std::vector<bool>>() &&
                                got.mean == want.at("mean").get<std::vector<float>>() &&
                                got.std == want.at("std").get<std::vector<float>>());
  }

  OwnedTensor zeros(Shape shape) {
    return value_of(OwnedTensor::allocate(*golden_.budget, MemoryCategory::kRuntime, shape, DType::kF32));
  }

  void encode(const json& call, bool streamed) {
    OwnedTensor pixels = golden_.tensor(call.at("in").at("x"));  // [3, F, H, W]
    int64_t height = pixels.tensor.dim(2), width = pixels.tensor.dim(3);
    std::unique_ptr<VaeEncodeStream>& stream =
        encoders_[streamed ? call.at("args").at("stream").get<std::string>() : ""];
    if (!streamed || call.at("args").at("first"))
      stream = value_of(VaeEncodeStream::open(*vae_, *golden_.budget, height, width));
    Seen seen;
    stream->set_observer(call.at("out").contains("debug") ? seen.observer() : VaeObserver());
    int64_t latents = latents_of(*stream, pixels.tensor.dim(1));
    OwnedTensor z = zeros({16, latents, height / kVaePixels, width / kVaePixels});
    must(encode_frames(*stream, pixels.tensor, z.tensor, *golden_.budget));
    stream->set_observer({});
    golden_.compare(call.at("out").at("z"), z.tensor);
    debug(call, seen);
  }

  void decode(const json& call, bool streamed) {
    OwnedTensor z = golden_.tensor(call.at("in").at("z"));  // [16, L, h, w]
    int64_t height = z.tensor.dim(2), width = z.tensor.dim(3);
    if (call.at("args").at("clamp") != json::array({-1, 1})) throw std::runtime_error("unknown clamp");
    std::unique_ptr<VaeDecodeStream>& stream =
        decoders_[streamed ? call.at("args").at("stream").get<std::string>() : ""];
    if (!streamed || call.at("args").at("first"))
      stream = value_of(VaeDecodeStream::open(*vae_, *golden_.budget, height, width));
    Seen seen;
    stream->set_observer(call.at("out").contains("debug") ? seen.observer() : VaeObserver());
    int64_t frames = frames_of(*stream, z.tensor.dim(1));
    OwnedTensor x = zeros({frames, height * kVaePixels, width * kVaePixels, 3});
    must(decode_latents(*stream, z.tensor, x.tensor, *golden_.budget));
    stream->set_observer({});
    const Download host(*golden_.backend, x.tensor);
    golden_.compare(call.at("out").at("x"), channels_first(host.tensor()));
    debug(call, seen);
  }

  // Names are debug.<call>.chunk<step>.<module>; or without a step: conv2 (all latents at once) and unclamped (the
  // decoder's head, all frames).
  void debug(const json& call, Seen& seen) {
    if (!call.at("out").contains("debug")) return;
    for (const std::string name : call.at("out").at("debug")) {
      size_t dot = name.find('.', sizeof("debug"));
      std::string rest = name.substr(dot + 1);
      if (rest.starts_with("chunk")) {
        size_t end = rest.find('.');
        golden_.compare(name, seen.step(rest.substr(end + 1), std::stoul(rest.substr(5, end - 5))));
      } else {
        golden_.compare(name, seen.joined(rest == "unclamped" ? "head" : rest));
      }
    }
  }

  void still(const json& call) {
    OwnedTensor image = golden_.tensor(call.at("in").at("image"));  // [3, 1, H, W]
    Tensor picture = image.tensor.reshape({3, image.tensor.dim(2), image.tensor.dim(3)});
    int64_t latents = 1 + (call.at("args").at("repeat").get<int64_t>() - 1) / kVaeFrames;
    std::vector<int64_t> wanted;
    if (call.at("args").contains("take_latents")) {
      wanted = call.at("args").at("take_latents").get<std::vector<int64_t>>();
    } else {
      for (int64_t i = 0; i < latents; ++i) wanted.push_back(i);
    }
    for (int64_t i : wanted) {
      if (i >= latents) throw std::runtime_error("latent " + std::to_string(i) + " of " + std::to_string(latents));
    }
    OwnedTensor z = value_of(encode_repeated(*vae_, *golden_.budget, picture, wanted));
    golden_.compare(call.at("out").at("z"), z.tensor);
  }

  const Golden& golden_;
  std::unique_ptr<WanVae> vae_;
  std::map<std::string, std::unique_ptr<VaeEncodeStream>> encoders_;
  std::map<std::string, std::unique_ptr<VaeDecodeStream>> decoders_;
};

}  // namespace

void check_wan_vae(const Golden& golden) { Check(golden).run(); }

}  // namespace liveavatar::golden
