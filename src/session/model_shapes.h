// The sizes of a checkpoint's four models, without their weights, and what tells the video model's from others.
#pragma once

#include <string>

#include "models/s2v_dit/config.h"
#include "models/umt5/umt5.h"
#include "models/wan_vae/config.h"
#include "models/wav2vec2/wav2vec2.h"

namespace liveavatar {

struct ModelShapes {
  DitConfig dit;
  WanVaeConfig vae;
  Umt5Config text;
  Wav2Vec2Config audio;
  std::string dit_key;  // of the video model's weights (weights_key); empty: without a checkpoint
};

// "14b": Live Avatar on Wan2.2-S2V-14B. "1.3b": the same topology at the width of Wan 2.1 1.3B. "mini": a model of the
// size of models/mini. Without a checkpoint; an unknown name lists these.
Expected<ModelShapes> named_model_shapes(const std::string& name);

}  // namespace liveavatar
