// The DiT's weights as named views, packed for one backend; the bytes belong to somebody else.
#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "models/s2v_dit/config.h"
#include "weights/loader.h"

namespace liveavatar {

struct DitAttentionWeights {
  LinearWeight q, k, v, o;  // [D, D]
  Tensor norm_q, norm_k;    // f32 [D]
};

// The layers' weights come in pages: what is loaded, used and let go as a whole.
enum class DitPart { kSelfAttention, kCrossAttention, kFfn, kInjector };
struct DitPage {
  DitPart part = DitPart::kSelfAttention;
  int64_t layer = 0;  // of an injector: the layer it follows
};

struct DitSelfAttentionWeights {
  static constexpr DitPart kPart = DitPart::kSelfAttention;
  DitAttentionWeights attention;
};
struct DitCrossAttentionWeights {
  static constexpr DitPart kPart = DitPart::kCrossAttention;
  Tensor norm_weight, norm_bias;  // f32 [D]
  DitAttentionWeights attention;
};
struct DitFfnWeights {
  static constexpr DitPart kPart = DitPart::kFfn;
  LinearWeight in, out;  // [ffn, D], [D, ffn]
};
struct DitInjectorWeights {
  static constexpr DitPart kPart = DitPart::kInjector;
  DitAttentionWeights attention;
  LinearWeight adain_shift, adain_scale;  // [D, D], the two halves of injector_adain_layers.j.linear
};
// The weights of one page.
using DitPageWeights =
    std::variant<DitSelfAttentionWeights, DitCrossAttentionWeights, DitFfnWeights, DitInjectorWeights>;

struct AudioEncoderWeights {
  Tensor layer_shares;  // f32 [layers], SiLU(w) / sum SiLU(w)
  ConvWeight conv1_local, conv1_global, conv2, conv3;
  LinearWeight final_linear;  // [D, D]
  Tensor padding_token;       // f32 [1, D]
};

// Rows of DitCommonWeights::kind.
enum class TokenType { kNoisy, kReference, kMotion };

// All but the pages.
struct DitCommonWeights {
  LinearWeight patch, pose_patch;                // [D, 16 * 4]
  LinearWeight pack_1x, pack_2x, pack_4x;        // frame packer
  LinearWeight text_in, text_out;                // [D, text_dim], [D, D]
  LinearWeight time_in, time_out, time_project;  // [D, 256], [D, D], [6 D, D]
  Tensor kind;                                   // f32 [3, D]: an embedding a TokenType
  std::vector<Tensor> modulation;                // a layer each: f32 [6, D]
  AudioEncoderWeights audio;
  LinearWeight head;       // [16 * 4, D]
  Tensor head_modulation;  // f32 [2, D]
};

struct DitWeights {
  DitCommonWeights common;
  std::vector<DitPageWeights> pages;  // in the order of dit_pages()
  std::vector<Buffer> buffers;
};

// In the order in which a noisy forward uses them; a prefill leaves out the injectors.
std::vector<DitPage> dit_pages(const DitConfig& config);
DitPageWeights load_dit_page(const DitConfig& config, const DitPage& page, WeightVisitor& visitor);
DitCommonWeights load_dit_common(const DitConfig& config, WeightVisitor& visitor);
// Every tensor by the original's name, in the shape that loading asks for.
std::map<std::string, Shape> dit_tensors(const DitConfig& config, const Backend& backend);

// Takes every tensor by the original's name; errors name the first tensor that is missing or has another shape.
Expected<DitWeights> load_dit_weights(const DitConfig& config, WeightAllocator& loader);

}  // namespace liveavatar
