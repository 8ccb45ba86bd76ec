// Checkpoint files as people have them: what their tensors are, what is known without a config.json, what is refused.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "golden.h"
#include "models/s2v_dit/s2v_dit.h"
#include "models/umt5/spiece_model.h"
#include "models/umt5/tokenizer.h"
#include "models/umt5/umt5.h"
#include "models/wan_vae/wan_vae.h"
#include "models/wav2vec2/wav2vec2.h"
#include "weights/lora.h"
#include "weights/part.h"
#include "weights/scaled_source.h"

namespace liveavatar::golden {
namespace {

using nlohmann::json;
constexpr const char* kAudioPrefix = "wav2vec2.";

Part part_of(const std::string& name) {
  if (name == "dit" || name == "lora") return Part::kVideoModel;
  if (name == "umt5") return Part::kTextEncoder;
  if (name == "vae") return Part::kVae;
  if (name == "wav2vec2") return Part::kAudioEncoder;
  throw std::runtime_error("unknown part '" + name + "'");
}

TensorSourcePtr must_open(const std::string& path) {
  auto source = open_safetensors(path);
  if (!source.ok()) throw std::runtime_error(source.status().message());
  return *source;
}

// An adapter, merged into the base that the call names.
Expected<TensorSourcePtr> open_merged(const Golden& golden, const json& call) {
  LA_ASSIGN_OR_RETURN(TensorSourcePtr base, open_part(golden.path(call.at("base")), Part::kVideoModel));
  LA_ASSIGN_OR_RETURN(LoraAdapter adapter, open_lora(golden.path(call.at("file"))));
  LA_ASSIGN_OR_RETURN(LoraMerge merge, merge_lora(std::move(base), std::move(adapter)));
  return merge.source;
}

Expected<TensorSourcePtr> open_call(const Golden& golden, const json& call) {
  const std::string path = golden.path(call.at("file"));
  if (call.at("part") == "lora") return open_merged(golden, call);
  if (!call.value("types_only", false)) return open_part(path, part_of(call.at("part")));
  LA_ASSIGN_OR_RETURN(TensorSourcePtr file, open_tensors(path));
  return apply_scales(std::move(file));
}

// A tensor as a model gets it: checked to be finite, in f32.
Expected<std::vector<float>> read(const Golden& golden, const TensorSource& source, const std::string& name) {
  WeightLoader loader(source, *golden.backend, *golden.budget, MemoryCategory::kWeights, DType::kF32);
  Tensor values = loader.read_f32(name, source.tensors().at(name).shape);
  LA_RETURN_IF_ERROR(loader.status());
  return std::vector<float>(values.host<float>(), values.host<float>() + values.elements());
}

// The files that hold what is expected; the first that has a tensor counts.
struct Wanted {
  TensorSourcePtr tensors;
  std::vector<TensorSourcePtr> others;
  double tolerance = 0;

  Wanted(const Golden& golden, const json& expect)
      : tensors(must_open(golden.path(expect.at("tensors")))), tolerance(expect.at("tolerance").at("max")) {
    if (!expect.contains("others")) return;
    json list = expect.at("others").is_array() ? expect.at("others") : json::array({expect.at("others")});
    for (const json& file : list) others.push_back(must_open(golden.path(file)));
  }
};

bool has(const TensorSource& source, const std::string& name) { return source.tensors().contains(name); }

// The name in the golden's file; the audio encoder's may have its prefix there.
std::string name_in(const TensorSource& source, const std::string& name) {
  return has(source, name) ? name : kAudioPrefix + name;
}

struct Outcome {
  std::string wrong;  // the first thing
  double worst = 0;
  int compared = 0;
};

void compare_tensor(const Golden& golden, const TensorSource& got, const std::string& name, const TensorSource& want,
                    double tolerance, bool shape_counts, Outcome& outcome) {
  const std::string wanted_name = name_in(want, name);
  auto values = read(golden, got, name), expected = read(golden, want, wanted_name);
  auto note = [&](const std::string& what) {
    if (outcome.wrong.empty()) outcome.wrong = name + ": " + what;
  };
  ++outcome.compared;
  if (!values.ok()) return note(values.status().message());
  if (!expected.ok()) throw std::runtime_error(expected.status().message());
  const Shape &shape = got.tensors().at(name).shape, &wanted_shape = want.tensors().at(wanted_name).shape;
  if (shape_counts && !(shape == wanted_shape)) return note("shape " + shape.str() + ", wanted " + wanted_shape.str());
  if (values->size() != expected->size()) return note("another number of values");
  double largest = 0, error = 0;
  for (size_t i = 0; i < values->size(); ++i) {
    largest = std::max(largest, std::fabs(double((*expected)[i])));
    error = std::max(error, std::fabs(double((*values)[i]) - double((*expected)[i])));
  }
  if (error > tolerance * largest) note("off by " + std::to_string(error) + " of " + std::to_string(largest));
  if (largest > 0) outcome.worst = std::max(outcome.worst, error / largest);
}

Outcome compare_values(const Golden& golden, const TensorSource& got, const json& expect) {
  Wanted wanted(golden, expect);
  bool shape_counts = expect.value("shape", "") != "elements";
  Outcome outcome;
  for (const auto& [name, info] : got.tensors()) {
    if (has(*wanted.tensors, name_in(*wanted.tensors, name))) {
      compare_tensor(golden, got, name, *wanted.tensors, wanted.tolerance, shape_counts, outcome);
      continue;
    }
    auto other = std::find_if(wanted.others.begin(), wanted.others.end(), [&](const auto& o) { return has(*o, name); });
    if (other != wanted.others.end()) {
      compare_tensor(golden, got, name, **other, 0, shape_counts, outcome);
    } else if (outcome.wrong.empty()) {
      outcome.wrong = name + ": is no tensor of the model";
    }
  }
  for (const auto& [name, info] : wanted.tensors->tensors()) {
    bool missing = !has(got, name) && !expect.value("only_present", false);
    if (missing && outcome.wrong.empty()) outcome.wrong = name + ": is missing";
  }
  return outcome;
}

DitConfig dit_config(const Golden& golden, const json& call) {
  json config = golden.config();
  for (const char* key : {"num_layers", "audio_inject_layers"}) {
    if (call.contains(key)) config[key] = call[key];
  }
  auto parsed = parse_dit_config(config.dump(), "golden.json");
  if (!parsed.ok()) throw std::runtime_error(parsed.status().message());
  return *parsed;
}

Status load_model(const Golden& golden, const json& call, const TensorSource& source) {
  Backend& backend = *golden.backend;
  Budget& budget = *golden.budget;
  switch (part_of(call.at("part"))) {
    case Part::kVideoModel:
      return S2vDit::load(dit_config(golden, call), source, backend, budget, golden.dtype).status();
    case Part::kTextEncoder:
      return Umt5::load(source, backend, golden.dtype).status();
    case Part::kVae:
      return WanVae::load(source, backend, budget, golden.dtype).status();
    case Part::kAudioEncoder: {
      LA_ASSIGN_OR_RETURN(Wav2Vec2Config config, read_wav2vec2_shapes(source));
      config.heads = 1;  // no shape tells; weights do not depend on it
      return Wav2Vec2::load(config, source, backend, budget, golden.dtype).status();
    }
  }
  return {};
}

// Everything that a job does with such a file: the first thing that goes wrong.
Status use_file(const Golden& golden, const json& call) {
  if (call.at("part") == "tokenizer") return Tokenizer::load(golden.path(call.at("file"))).status();
  LA_ASSIGN_OR_RETURN(TensorSourcePtr source, open_call(golden, call));
  for (const auto& [name, info] : source->tensors()) LA_RETURN_IF_ERROR(read(golden, *source, name).status());
  return load_model(golden, call, *source);
}

void check_refusal(const Golden& golden, const json& call) {
  Status status = use_file(golden, call);
  const std::string& message = status.message();
  std::vector<std::string> mentions = call.value("mentions_any", std::vector<std::string>());
  if (mentions.empty()) mentions.push_back(call.at("mentions"));
  bool named = std::any_of(mentions.begin(), mentions.end(),
                           [&](const std::string& m) { return message.find(m) != std::string::npos; });
  golden.exact(call.at("file"), !status.ok() && named && message.find('\n') == std::string::npos,
               status.ok() ? "was taken" : message);
}

void check_derived(const Golden& golden, const std::string& file, const json& expect, const TensorSource& source) {
  const json& derived = expect.at("derived");
  TensorSourcePtr want = must_open(golden.path(derived.at("tensors")));
  auto config = read_wav2vec2_shapes(source);
  if (!golden.ok(file + " derived", config.status())) return;
  WeightLoader loader(source, *golden.backend, *golden.budget, MemoryCategory::kAudio, DType::kF32);
  Tensor kernel = merged_position_kernel(*config, loader);
  if (!golden.ok(file + " derived", loader.status())) return;
  auto expected = read(golden, *want, want->tensors().begin()->first);
  double largest = 0, error = 0;
  bool same_size = kernel.elements() == int64_t(expected->size());
  for (size_t i = 0; same_size && i < expected->size(); ++i) {
    largest = std::max(largest, std::fabs(double((*expected)[i])));
    error = std::max(error, std::fabs(double(kernel.host<float>()[i]) - double((*expected)[i])));
  }
  double limit = derived.at("tolerance").at("max").get<double>() * largest;
  golden.exact(file + " derived", same_size && largest > 0 && error <= limit, "off by " + std::to_string(error));
}

void check_values(const Golden& golden, const json& call) {
  const std::string file = call.at("file");
  const json& expect = call.at("expect");
  auto source = open_call(golden, call);
  if (!source.ok() && call.value("or_error", false)) {
    golden.exact(file, source.status().message().find('\n') == std::string::npos, source.status().message());
    return;
  }
  if (!golden.ok(file, source.status())) return;
  Outcome outcome = compare_values(golden, **source, expect);
  golden.exact(file, outcome.wrong.empty() && outcome.compared > 0,
               outcome.wrong.empty()
                   ? std::to_string(outcome.compared) + " tensors, worst " + std::to_string(outcome.worst)
                   : outcome.wrong);
  if (call.value("whole", false)) golden.ok(file + " as a model", load_model(golden, call, **source));
  if (expect.contains("derived")) check_derived(golden, file, expect, **source);
}

void check_inferred(const Golden& golden, const json& call) {
  const std::string file = call.at("file");
  auto source = open_call(golden, call);
  if (!golden.ok(file + " config", source.status())) return;
  auto shapes = read_dit_shapes(**source);
  if (!golden.ok(file + " config", shapes.status())) return;
  const DitConfig& c = shapes->config;
  const json got = {{"dim", c.dim},
                    {"ffn_dim", c.ffn_dim},
                    {"num_layers", c.layers},
                    {"text_dim", c.text_dim},
                    {"freq_dim", c.freq_dim},
                    {"audio_dim", c.audio_dim},
                    {"in_dim", c.channels},
                    {"out_dim", shapes->out_channels},
                    {"cond_dim", shapes->pose_channels},
                    {"num_audio_token", c.audio_tokens},
                    {"enable_adain", shapes->adain},
                    {"injectors", shapes->audio_attentions},
                    {"audio_states", c.audio_layers}};
  golden.exact(file + " config", got == call.at("expect").at("config"), got.dump());
}

void check_tokenizer_inside(const Golden& golden, const json& call) {
  const std::string file = call.at("file"), path = golden.path(file);
  const json& expect = call.at("expect");
  if (expect.contains("bytes_of")) {
    auto model = read_spiece_model(path);
    if (!golden.ok(file + " tokenizer", model.status())) return;
    std::ifstream stream(golden.path(expect.at("bytes_of")), std::ios::binary);
    std::ostringstream bytes;
    bytes << stream.rdbuf();
    golden.exact(file + " tokenizer", *model == bytes.str() && !model->empty());
    return;
  }
  auto tokenizer = Tokenizer::load(path);
  if (!golden.ok(file + " tokenizer", tokenizer.status())) return;
  for (size_t i = 0; i < expect.at("texts").size(); ++i) {
    std::vector<int32_t> ids = (*tokenizer)->encode_clean(expect["texts"][i].get<std::string>());
    golden.exact(file + " text " + std::to_string(i), ids == expect.at("ids").at(i).get<std::vector<int32_t>>());
  }
}

}  // namespace

void check_checkpoint_files(const Golden& golden) {
  for (const json& call : golden.calls()) {
    if (call.value("expect_error", false)) {
      check_refusal(golden, call);
    } else if (call.at("op") == "infer_config") {
      check_inferred(golden, call);
    } else if (call.at("part") == "tokenizer") {
      check_tokenizer_inside(golden, call);
    } else {
      check_values(golden, call);
    }
  }
}

}  // namespace liveavatar::golden
