// Adapters of every spelling and kind merged into a small base, against sums made here element by element.
#include <cstring>

#include "backend/backend.h"
#include "lora_fixture.h"
#include "ops/make_backend.h"
#include "weights/loader.h"

namespace liveavatar {
namespace {

struct Spelling {
  std::string down, up, alpha;  // alpha empty: none is given
};
class LoraTest : public LoraFixture {
 protected:
  void expect_pair(const Spelling& spelled, const std::string& target, DType dtype = DType::kF32) {
    SCOPED_TRACE(spelled.down);
    auto source = adapter();
    const Values down = some(3 * kColumns), up = some(kRows * 3);
    source->add(spelled.down, {3, kColumns}, down, dtype).add(spelled.up, {kRows, 3}, up, dtype);
    float factor = 1;
    if (!spelled.alpha.empty()) {
      source->add(spelled.alpha, {}, {6}, dtype);
      factor = 2;
    }
    expect_merge({.source = source}, {{target, plus(read(*base_, target), factor, times(up, down, 3))}});
  }
};

TEST_F(LoraTest, AcceptsEverySpellingOfAPair) {
  const std::string prefixes[] = {"",      "diffusion_model.",  "model.diffusion_model.", "transformer.", "model.",
                                  "unet.", "base_model.model.", "base_model.model.model."};
  const std::pair<const char*, const char*> pairs[] = {
      {".lora_down.weight", ".lora_up.weight"},
      {"_lora.down.weight", "_lora.up.weight"},
      {".lora.down.weight", ".lora.up.weight"},
      {".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"},
      {".lora_A.weight", ".lora_B.weight"},
      {".lora_A", ".lora_B"},
      {".lora_A.default.weight", ".lora_B.default.weight"},
      {".lora_A.wan_style.weight", ".lora_B.wan_style.weight"}};
  for (const std::string module : {"blocks.11.ffn.0", "audio_injector.injector.1.o"}) {
    for (const auto& [down, up] : pairs) {
      for (const std::string& prefix : prefixes) {
        const std::string name = prefix + module;
        expect_pair({name + down, name + up, name + ".alpha"}, module + ".weight");
        expect_pair({name + down, name + up, ""}, module + ".weight", DType::kBF16);
      }
      std::string flat = module;
      for (char& c : flat) c = c == '.' ? '_' : c;
      for (const char* prefix : {"lora_unet_", "lora_unet__", "lycoris_", "lora_transformer_"}) {
        const std::string name = prefix + flat;
        expect_pair({name + down, name + up, name + ".alpha"}, module + ".weight", DType::kF16);
      }
    }
  }
}

TEST_F(LoraTest, AcceptsDiffusersNames) {
  const std::pair<const char*, const char*> names[] = {
      {"blocks.0.attn1.to_q", "blocks.0.self_attn.q"},
      {"blocks.0.attn1.to_out.0", "blocks.0.self_attn.o"},
      {"blocks.11.attn2.to_k", "blocks.11.cross_attn.k"},
      {"blocks.11.ffn.net.0.proj", "blocks.11.ffn.0"},
      {"blocks.11.ffn.net.2", "blocks.11.ffn.2"},
      {"condition_embedder.text_embedder.linear_1", "text_embedding.0"},
      {"condition_embedder.time_proj", "time_projection.1"},
      {"proj_out", "head.head"},
  };
  for (auto [diffusers, original] : names) {
    const std::string target = std::string(original) + ".weight", dotted = std::string("transformer.") + diffusers;
    expect_pair({dotted + ".lora_A.weight", dotted + ".lora_B.weight", ""}, target);
    std::string flat = std::string("lycoris_") + diffusers;
    for (char& c : flat) c = c == '.' ? '_' : c;
    expect_pair({flat + ".lora_down.weight", flat + ".lora_up.weight", flat + ".alpha"}, target);
  }
  auto source = adapter();
  const Values table = some(24), norm = some(kColumns);
  source->add("blocks.0.scale_shift_table.diff", {1, 6, 4}, table).add("blocks.0.norm2.diff", {kColumns}, norm);
  expect_merge({.source = source}, {{"blocks.0.modulation", plus(read(*base_, "blocks.0.modulation"), 1, table)},
                                    {"blocks.0.norm3.weight", plus(read(*base_, "blocks.0.norm3.weight"), 1, norm)}});
}

// The file's alpha goes before the caller's; strength is times both.
TEST_F(LoraTest, ScalesByAlphaAndStrength) {
  const std::string q = "blocks.0.self_attn.q.weight", k = "blocks.11.cross_attn.k.weight";
  const Values down = some(2 * kColumns), up = some(kRows * 2), delta = times(up, down, 2);
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kI64}) {
    auto source = adapter();
    source->add("blocks.0.self_attn.q.lora_A.weight", {2, kColumns}, down)
        .add("blocks.0.self_attn.q.lora_B.weight", {kRows, 2}, up)
        .add("blocks.0.self_attn.q.alpha", {1}, {1}, dtype)
        .add("blocks.11.cross_attn.k.lora_A.weight", {2, kColumns}, down)
        .add("blocks.11.cross_attn.k.lora_B.weight", {kRows, 2}, up);
    expect_merge({.source = source}, {{q, plus(read(*base_, q), 0.5f, delta)}, {k, plus(read(*base_, k), 1, delta)}});
    expect_merge({.source = source, .strength = -0.25, .alpha = 64},
                 {{q, plus(read(*base_, q), -0.125f, delta)}, {k, plus(read(*base_, k), -8, delta)}});
    expect_merge({.source = source, .strength = 0}, {});
    EXPECT_EQ(merge_lora(base_, {.source = source, .strength = 0.8, .alpha = 64})->report.line(),
              "x.safetensors: merged 2 matrices, rank 2, alpha 1 to 64 (factor 0.5 to 32), strength 0.8");
    EXPECT_NE(error_of({.source = source, .strength = NAN}).find("strength"), std::string::npos);
    EXPECT_NE(error_of({.source = source, .strength = 1e300}).find("strength"), std::string::npos);
  }
}

TEST_F(LoraTest, AppliesDifferencesAndReplacements) {
  auto source = adapter();
  const Values norm = some(kColumns), bias = some(kRows), table = some(24), head = some(8), kernel = some(24),
               weight = some(kRows * kColumns), down = some(2 * kColumns), up = some(kRows * 2), set = some(kColumns);
  source->add("diffusion_model.blocks.0.norm3.diff", {kColumns}, norm, DType::kBF16)
      .add("diffusion_model.blocks.0.norm3.b_norm", {kColumns}, norm)
      .add("diffusion_model.blocks.0.self_attn.q.diff_b", {kRows}, bias)
      .add("diffusion_model.blocks.0.self_attn.q.diff", {kRows, kColumns}, weight)
      .add("diffusion_model.blocks.0.self_attn.q.lora_down.weight", {2, kColumns}, down)
      .add("diffusion_model.blocks.0.self_attn.q.lora_up.weight", {kRows, 2}, up)
      .add("diffusion_model.blocks.0.self_attn.q.alpha", {}, {1})
      .add("lora_unet_blocks_0.diff_m", {6, 4}, table)  // squeezed
      .add("diffusion_model.head.diff_m", {1, 2, 4}, head)
      .add("diffusion_model.patch_embedding.diff", {3, 2, 1, 2, 2}, kernel)
      .add("text_embedding.0.set_weight", {kRows, kColumns}, weight, DType::kF16)
      .add("base_model.model.blocks.0.self_attn.o.base_layer.bias", {kRows}, bias, DType::kBF16);
  for (float s : {1.0f, 0.5f, 0.0f}) {
    const std::string q = "blocks.0.self_attn.q.weight";
    auto between = [&](const std::string& name, const Values& v) {
      Values out = read(*base_, name);
      for (size_t i = 0; i < v.size(); ++i) out[i] = (1 - s) * out[i] + s * v[i];
      return out;
    };
    auto moved = [&](const std::string& name, const Values& v) { return plus(read(*base_, name), s, v); };
    expect_merge({.source = source, .strength = s},
                 {{"blocks.0.norm3.weight", moved("blocks.0.norm3.weight", norm)},
                  {"blocks.0.norm3.bias", moved("blocks.0.norm3.bias", norm)},
                  {"blocks.0.self_attn.q.bias", moved("blocks.0.self_attn.q.bias", bias)},
                  {q, plus(moved(q, weight), s / 2, times(up, down, 2))},
                  {"blocks.0.modulation", moved("blocks.0.modulation", table)},
                  {"head.modulation", moved("head.modulation", head)},
                  {"patch_embedding.weight", moved("patch_embedding.weight", kernel)},
                  {"text_embedding.0.weight", between("text_embedding.0.weight", weight)},
                  {"blocks.0.self_attn.o.bias", between("blocks.0.self_attn.o.bias", bias)}});
  }
  auto merge = *merge_lora(base_, {.source = source});
  EXPECT_EQ(merge.source->tensors().at("text_embedding.0.weight").dtype, DType::kF16);  // as it is, to the bit
  EXPECT_EQ(merge.report.line(),
            "x.safetensors: merged 1 matrix, rank 2, alpha 1 (factor 0.5), added 7 differences, replaced 2 tensors, "
            "strength 1");
}

// A kernel's factors come flattened, or with the kernel's own dimensions.
TEST_F(LoraTest, FlattensKernels) {
  const Values down = some(2 * 8), up = some(3 * 2);
  const Values want = plus(read(*base_, "patch_embedding.weight"), 1, times(up, down, 2));
  for (Shape shape : {Shape{2, 8}, Shape{2, 2, 1, 2, 2}}) {
    for (Shape up_shape : {Shape{3, 2}, Shape{3, 2, 1, 1, 1}}) {
      auto source = adapter();
      source->add("patch_embedding.lora_down.weight", shape, down).add("patch_embedding.lora_up.weight", up_shape, up);
      expect_merge({.source = source}, {{"patch_embedding.weight", want}});
    }
  }
  auto source = adapter();
  source->add("patch_embedding.lora_down.weight", {2, 4, 1, 2, 1}, down)
      .add("patch_embedding.lora_up.weight", {3, 2}, up);
  EXPECT_NE(error_of({.source = source}).find("does not fit"), std::string::npos);
}

TEST_F(LoraTest, AppliesHadamardProducts) {
  const std::string m = "lycoris_blocks_11_ffn_2.", target = "blocks.11.ffn.2.weight";
  const Values a1 = some(kRows * 2), b1 = some(2 * kColumns), a2 = some(kRows * 3), b2 = some(3 * kColumns);
  auto source = adapter();
  source->add(m + "hada_w1_a", {kRows, 2}, a1)
      .add(m + "hada_w1_b", {2, kColumns}, b1)
      .add(m + "hada_w2_a", {kRows, 3}, a2)
      .add(m + "hada_w2_b", {3, kColumns}, b2)
      .add(m + "alpha", {}, {1});
  Values delta = times(a1, b1, 2), second = times(a2, b2, 3);
  for (size_t i = 0; i < delta.size(); ++i) delta[i] *= second[i];
  expect_merge({.source = source}, {{target, plus(read(*base_, target), 0.5f, delta)}});
}

// Each factor whole or as a product. The rank that alpha is divided by is the second factor's, else the first's.
TEST_F(LoraTest, AppliesKroneckerProducts) {
  const std::string m = "diffusion_model.blocks.11.ffn.2.", target = "blocks.11.ffn.2.weight";
  const Values a1 = some(2 * 1), b1 = some(1 * 2), a2 = some(3 * 2), b2 = some(2 * 2);
  const Values w1 = times(a1, b1, 1), w2 = times(a2, b2, 2);  // [2, 2], [3, 2]
  Values delta;
  for (size_t o = 0; o < 6; ++o) {
    for (size_t i = 0; i < 4; ++i) delta.push_back(w1[o / 3 * 2 + i / 2] * w2[o % 3 * 2 + i % 2]);
  }
  for (bool first_whole : {true, false}) {
    for (bool second_whole : {true, false}) {
      auto source = adapter();
      source->add(m + "alpha", {}, {3});
      if (first_whole) {
        source->add(m + "lokr_w1", {2, 2}, w1);
      } else {
        source->add(m + "lokr_w1_a", {2, 1}, a1).add(m + "lokr_w1_b", {1, 2}, b1);
      }
      if (second_whole) {
        source->add(m + "lokr_w2", {3, 2}, w2);
      } else {
        source->add(m + "lokr_w2_a", {3, 2}, a2).add(m + "lokr_w2_b", {2, 2}, b2);
      }
      const float factor = !second_whole ? 1.5f : first_whole ? 1 : 3;
      expect_merge({.source = source}, {{target, plus(read(*base_, target), factor, delta)}});
    }
  }
}

TEST_F(LoraTest, MergesSeveralAdaptersInOrder) {
  const std::string target = "blocks.0.self_attn.q.weight";
  auto first = adapter("first"), second = adapter("second");
  const Values down = some(2 * kColumns), up = some(kRows * 2), set = some(kRows * kColumns);
  first->add("blocks.0.self_attn.q.lora_A.weight", {2, kColumns}, down)
      .add("blocks.0.self_attn.q.lora_B.weight", {kRows, 2}, up);
  second->add("lora_unet_blocks_0_self_attn_q.diff", {kRows, kColumns}, set);
  auto merges = merge_loras(
      base_,
      {{.source = first, .strength = 0.5}, {.source = second, .strength = 2}, {.source = first, .strength = -0.5}});
  ASSERT_TRUE(merges.ok()) << merges.status().message();
  expect_values(*merges->source, target, plus(read(*base_, target), 2, set));
  ASSERT_EQ(merges->reports.size(), 3u);
  EXPECT_EQ(merges->reports[1].line(), "second: added 1 difference, strength 2");
  second->add("blocks.0.self_attn.q.set_weight", {kRows, kColumns}, set);
  auto replaced = merge_loras(base_, {{.source = first}, {.source = second}});
  expect_values(*replaced->source, target, plus(set, 1, set));
}

TEST_F(LoraTest, NamesTensorsItDoesNotUnderstand) {
  const std::string q = "diffusion_model.blocks.0.self_attn.q";
  using Spoil = std::function<void(MemorySource&)>;
  const std::pair<Spoil, const char*> cases[] = {
      {[&](MemorySource& s) {
         s.add(q + ".dora_scale", {6, 1}, some(6));
       },
       "q.dora_scale cannot be merged: DoRA"},
      {[&](MemorySource& s) { s.add(q + ".lora_magnitude_vector.default.weight", {6}, some(6)); }, "DoRA"},
      {[&](MemorySource& s) { s.add(q + ".reshape_weight", {2}, some(2)); }, "q.reshape_weight cannot"},
      {[&](MemorySource& s) {
         s.add(q + ".lora_mid.weight", {2, 2, 1, 1}, some(4));
       },
       "q.lora_mid.weight cannot"},
      {[&](MemorySource& s) {
         s.add(q + ".hada_t1", {2, 2, 1, 1}, some(4));
       },
       "q.hada_t1 cannot"},
      {[&](MemorySource& s) { s.add(q + ".lora_B.default.bias", {6}, some(6)); }, "lora_B.default.bias cannot"},
      {[&](MemorySource& s) {
         s.add("lora_te_encoder_q.lora_up.weight", {6, 2}, some(12));
       },
       "text encoder"},
      {[&](MemorySource& s) { s.add(q + ".scale", {}, {1}); }, "q.scale fits nothing in base"},
      {[&](MemorySource& s) { s.add(q + ".lora_down.weight_scale", {}, {1}); }, "weight_scale fits nothing"},
      {[&](MemorySource& s) {
         s.add("lora_unet_blocks_1_self_attn_q.lora_up.weight", {6, 2}, some(12));
       },
       "fits nothing"},
      {[&](MemorySource& s) { s.add("diffusion_model.blocks.0.norm3.diff_m", {4}, some(4)); }, "fits nothing"},
      {[&](MemorySource& s) {
         s.add("blocks.0.self_attn.q.lora_A.weight", {2, 4}, some(8));
       },
       "are the same part of"},
      {[&](MemorySource& s) {
         s.add(q + ".lora_up.weight", {5, 2}, some(10));
       },
       "q.lora_up.weight has shape [5, 2]"},
      {[&](MemorySource& s) {
         s.add(q + ".lora_up.weight", {6, 3}, some(18));
       },
       "different ranks"},
      {[&](MemorySource& s) { s.add(q + ".lora_up.weight", {6}, some(6)); }, "does not fit"},
      {[&](MemorySource& s) {
         s.add(q + ".lora_down.weight", {0, 4}, {}).add(q + ".lora_up.weight", {6, 0}, {});
       },
       "does not fit"},
      {[&](MemorySource& s) {
         s.add(q + ".lora_down.weight", {2, 3}, some(6));
       },
       "q.lora_down.weight has shape [2, 3]"},
      {[&](MemorySource& s) {
         s.add(q + ".lora_down.weight", {2, 4}, some(8), DType::kI64);
       },
       "dtype I64"},
      {[&](MemorySource& s) { s.add(q + ".alpha", {}, {NAN}); }, "q.alpha holds a value that is not finite"},
      {[&](MemorySource& s) { s.add(q + ".alpha", {}, {INFINITY}); }, "not finite"},
      {[&](MemorySource& s) {
         s.add(q + ".alpha", {2}, {1, 1});
       },
       "wanted one value"},
      {[&](MemorySource& s) { s.add("blocks.11.ffn.0.alpha", {}, {1}); }, "ffn.0.alpha scales nothing"},
      {[&](MemorySource& s) {
         s.add("blocks.11.ffn.0.lora_A", {2, 4}, some(8));
       },
       "one of a pair"},
      {[&](MemorySource& s) {
         s.add("blocks.11.ffn.0.lora_B", {6, 2}, some(12));
       },
       "one of a pair"},
      {[&](MemorySource& s) {
         s.add("blocks.11.ffn.0.hada_w2_b", {2, 4}, some(8));
       },
       "one of a pair"},
      {[&](MemorySource& s) {
         s.add("blocks.11.ffn.0.lokr_w1", {2, 2}, some(4));
       },
       "Kronecker"},
      {[&](MemorySource& s) { s.add("blocks.0.norm3.diff", {7}, some(7)); }, "norm3.diff has shape [7]"},
      {[&](MemorySource& s) { s.add("blocks.0.norm3.weight", {7}, some(7)); }, "norm3.weight has shape [7]"},
      {[&](MemorySource& s) {
         s.add("blocks.0.norm3.lora_A", {2, 4}, some(8)).add("blocks.0.norm3.lora_B", {1, 2}, some(2));
       },
       "does not fit"},
      {[&](MemorySource& s) {
         s.add("blocks.11.ffn.0.lokr_w1", {4, 2}, some(8)).add("blocks.11.ffn.0.lokr_w2", {2, 2}, some(4));
       },
       "does not fit"},
      {[&](MemorySource& s) {
         s.add("blocks.11.ffn.0.lokr_w1", {2, 2}, some(4))
             .add("blocks.11.ffn.0.lokr_w2", {3, 2}, some(6))
             .add("blocks.11.ffn.0.lokr_w2_a", {3, 2}, some(6));
       },
       "whole and as factors"},
  };
  for (const auto& [spoil, says] : cases) {
    auto source = adapter();
    source->add(q + ".lora_down.weight", {2, kColumns}, some(2 * kColumns));
    source->add(q + ".lora_up.weight", {kRows, 2}, some(kRows * 2));
    ASSERT_TRUE(merge_lora(base_, {.source = source}).ok());
    spoil(*source);
    const std::string message = error_of({.source = source});
    EXPECT_NE(message.find(says), std::string::npos) << message << "; wanted " << says;
    EXPECT_EQ(message.find("x.safetensors: "), 0u) << message;
  }
  EXPECT_NE(error_of({.source = adapter()}).find("no tensors"), std::string::npos);
}

TEST_F(LoraTest, NamesFactorsThatAreNotFinite) {
  for (const char* spoiled : {"lora_A", "lora_B"}) {
    auto source = adapter();
    source->add("blocks.0.self_attn.q.lora_A", {1, kColumns}, Values(kColumns, 1));
    source->add("blocks.0.self_attn.q.lora_B", {kRows, 1}, Values(kRows, 1));
    const std::string name = std::string("blocks.0.self_attn.q.") + spoiled;
    Values values(static_cast<size_t>(source->tensors().at(name).shape.elements()), 1);
    values.back() = NAN;
    source->add(name, source->tensors().at(name).shape, values);
    auto merge = merge_lora(base_, {.source = source});
    ASSERT_TRUE(merge.ok());
    std::vector<float> w(kRows * kColumns);
    Status status = merge->source->read("blocks.0.self_attn.q.weight", w.data());
    EXPECT_NE(status.message().find(name + " holds a value that is not finite"), std::string::npos);
  }
}

// Counts the values that are read of each tensor.
class CountingSource : public MemorySource {
 public:
  using MemorySource::MemorySource;
  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    counts[name] += part.count;
    return MemorySource::read_part(name, part, target);
  }
  mutable std::map<std::string, int64_t> counts;
};

TEST_F(LoraTest, FactorsAreReadOnceForAllPartsOfATensor) {
  auto source = std::make_shared<CountingSource>("x.safetensors");
  source->add("blocks.0.self_attn.q.lora_A", {2, kColumns}, some(2 * kColumns));
  source->add("blocks.0.self_attn.q.lora_B", {kRows, 2}, some(kRows * 2));
  auto merge = merge_lora(base_, {.source = source});
  ASSERT_TRUE(merge.ok()) << merge.status().message();
  for (int64_t row = 0; row < kRows; ++row)
    read(*merge->source, "blocks.0.self_attn.q.weight", row * kColumns, kColumns);
  EXPECT_EQ(source->counts["blocks.0.self_attn.q.lora_A"], 2 * kColumns);
  EXPECT_EQ(source->counts["blocks.0.self_attn.q.lora_B"], 2 * kRows);
}

TEST_F(LoraTest, ChargesTheFactorsToTheReader) {
  EXPECT_EQ(base_->scratch_bytes(), 0u);
  auto source = adapter();
  constexpr int64_t kRank = 500;
  source->add("blocks.0.self_attn.q.lora_A", {kRank, kColumns}, some(kRank * kColumns));
  source->add("blocks.0.self_attn.q.lora_B", {kRows, kRank}, some(kRows * kRank));
  auto merge = merge_lora(base_, {.source = source});
  ASSERT_TRUE(merge.ok()) << merge.status().message();
  const size_t scratch = merge->source->scratch_bytes();
  EXPECT_GE(scratch, (kRows + kColumns) * kRank * sizeof(float));
  Budget unlimited, small(scratch - 1);
  auto backend = *make_backend("cpu", {.threads = 1, .budget = &unlimited});
  Budget budget;
  {
    WeightLoader loader(*merge->source, *backend, budget, MemoryCategory::kWeights, DType::kF32);
    EXPECT_EQ(budget.used_bytes(MemoryCategory::kWeights), scratch);
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
  WeightLoader refused(*merge->source, *backend, small, MemoryCategory::kWeights, DType::kF32);
  EXPECT_EQ(refused.status().code(), ErrorCode::kOutOfMemory);
}

// Adapters with parts missing, doubled or misshapen are merged or refused, never more than that. (The sanitizer build
// watches.)
TEST_F(LoraTest, RandomPartsNeverCrash) {
  const std::vector<std::pair<const char*, Shape>> kinds[] = {
      {{"lora_A", {2, 8}}, {"lora_B", {3, 2}}, {"alpha", {}}},
      {{"hada_w1_a", {3, 2}}, {"hada_w1_b", {2, 8}}, {"hada_w2_a", {3, 1}}, {"hada_w2_b", {1, 8}}},
      {{"lokr_w1", {3, 2}}, {"lokr_w2", {1, 4}}, {"alpha", {}}},
      {{"lokr_w1_a", {1, 2}}, {"lokr_w1_b", {2, 2}}, {"lokr_w2_a", {3, 1}}, {"lokr_w2_b", {1, 4}}},
      {{"diff", {3, 2, 1, 2, 2}}, {"set_weight", {3, 2, 1, 2, 2}}}};
  int merged = 0;
  for (int round = 0; round < 2000; ++round) {
    auto source = adapter();
    const auto& kind = kinds[random_() % std::size(kinds)];
    for (const auto& [ending, right] : kind) {
      Shape shape = right;
      if (random_() % 8 == 0 && shape.rank() > 0) shape = {right[0], static_cast<int64_t>(random_() % 9)};
      if (random_() % 8 == 0) shape.push_back(static_cast<int64_t>(random_() % 3));
      const auto& other = kinds[random_() % std::size(kinds)];
      const char* name = random_() % 8 == 0 ? other[random_() % other.size()].first : ending;
      if (random_() % 8 > 0) source->add(std::string("patch_embedding.") + name, shape, some(shape.elements()));
    }
    auto merge = merge_lora(base_, {.source = source});
    if (!merge.ok()) continue;
    ++merged;
    EXPECT_EQ(read(*merge->source, "patch_embedding.weight").size(), 24u);
  }
  EXPECT_GT(merged, 100);
  EXPECT_LT(merged, 1900);
}

}  // namespace
}  // namespace liveavatar
