// Finds the SentencePiece model of a tokenizer.
#pragma once

#include <string>

#include "core/status.h"
#include "weights/gguf_vocabulary.h"

namespace liveavatar {

// The bytes of a spiece.model: path is that file, or a text encoder's file that holds it (a tensor spiece_model in
// safetensors; the vocabulary of a GGUF, from which the model is built). kNotFound: the file holds no tokenizer.
Expected<std::string> read_spiece_model(const std::string& path);

// A serialised SentencePiece model (unigram) with this vocabulary.
std::string build_spiece_model(const GgufVocabulary& vocabulary);

}  // namespace liveavatar
