// The parts of a checkpoint, identified by the names of their tensors, with the original's names.
#pragma once

#include <string>

#include "weights/tensor_source.h"

namespace liveavatar {

enum class Part { kVideoModel, kTextEncoder, kVae, kAudioEncoder };

const char* part_name(Part part);  // "video model", "text encoder", "video VAE", "audio encoder"

// Whether the file has tensors of this part, in any spelling that open_part supports.
bool is_part(const TensorSource& file, Part part);

// A part from one file, or from a folder of shards: tensors under the original's names, scales applied
// (weights/scaled_source.h), without tensors of other models. Spellings: docs/checkpoint.md.
//   video model    the original's names; prefixes model.diffusion_model., diffusion_model., model., net.
//   text encoder   the original's, Hugging Face's, llama.cpp's
//   video VAE      the original's, Diffusers'
//   audio encoder  Hugging Face's, without the prefix wav2vec2.; position convolution as parametrizations.weight
// Errors name the file: not this part, a tensor twice, and all of open_tensors and apply_scales.
Expected<TensorSourcePtr> open_part(const std::string& path, Part part);
// The same over an open file.
Expected<TensorSourcePtr> as_part(TensorSourcePtr file, Part part);

// path: a file, the .index.json of shards, or a folder with one weight file or such shards. Names and values are those
// of the files.
Expected<TensorSourcePtr> open_file_or_shards(const std::string& path);

}  // namespace liveavatar
