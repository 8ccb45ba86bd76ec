#include "models/umt5/spiece_model.h"

#include <bit>
#include <cstring>

#include "weights/file.h"
#include "weights/tensor_source.h"

namespace liveavatar {
namespace {

constexpr const char* kTensor = "spiece_model";
constexpr uint64_t kMaxModelBytes = 64u << 20;
constexpr int32_t kUnused = 5;

// The few things of protocol buffers' wire format that a SentencePiece model needs (sentencepiece_model.proto).
class Message {
 public:
  void number(int field, uint64_t value) {
    varint(static_cast<uint64_t>(field) << 3);
    varint(value);
  }
  void real(int field, float value) {
    varint(static_cast<uint64_t>(field) << 3 | 5);
    auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes_.push_back(static_cast<char>(bits >> shift & 255));
  }
  void text(int field, const std::string& value) {
    varint(static_cast<uint64_t>(field) << 3 | 2);
    varint(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 128; value >>= 7) bytes_.push_back(static_cast<char>(value | 128));
    bytes_.push_back(static_cast<char>(value));
  }
  std::string bytes_;
};

// Filler tokens after the last token, up to the rows of the embedding.
size_t tokens_without_padding(const GgufVocabulary& v) {
  size_t count = v.tokens.size();
  while (count > 0 && v.types[count - 1] == kUnused && v.tokens[count - 1].starts_with("[PAD")) --count;
  return count;
}

Expected<std::string> read_all(const File& file) {
  if (file.bytes() > kMaxModelBytes) return not_found(file.path() + ": is no SentencePiece model");
  std::string bytes(file.bytes(), '\0');
  LA_RETURN_IF_ERROR(file.read(0, bytes.data(), bytes.size()));
  return bytes;
}

Expected<std::string> read_tensor(const TensorSource& source) {
  for (const auto& [name, info] : source.tensors()) {
    if (name != kTensor && !name.ends_with(std::string(".") + kTensor)) continue;
    auto bytes = static_cast<uint64_t>(info.shape.elements());
    if (dtype_bytes(info.dtype) != 1 || bytes > kMaxModelBytes)
      return corrupt(source.where() + ": " + name + " is not the bytes of a tokenizer");
    std::string model(bytes, '\0');
    LA_RETURN_IF_ERROR(source.read(name, model.data()));
    return model;
  }
  return not_found(source.where() + ": holds no tokenizer; give the tokenizer's folder or spiece.model");
}

}  // namespace

std::string build_spiece_model(const GgufVocabulary& v) {
  constexpr int kUnigram = 1;
  size_t count = tokens_without_padding(v);
  Message model;
  for (size_t i = 0; i < count; ++i) {
    Message piece;
    piece.text(1, v.tokens[i]);
    piece.real(2, v.scores[i]);
    piece.number(3, static_cast<uint64_t>(v.types[i]));
    model.text(1, piece.bytes());
  }
  Message trainer;
  trainer.number(3, kUnigram);
  trainer.number(4, count);
  trainer.number(40, static_cast<uint64_t>(v.unknown_id));
  trainer.number(42, static_cast<uint64_t>(v.eos_id));
  trainer.number(43, static_cast<uint64_t>(v.pad_id));
  model.text(2, trainer.bytes());
  Message normaliser;
  normaliser.text(2, v.precompiled_charsmap);
  normaliser.number(3, v.add_space_prefix ? 1 : 0);
  normaliser.number(4, v.remove_extra_whitespaces ? 1 : 0);
  normaliser.number(5, 1);  // spaces are written as U+2581
  model.text(3, normaliser.bytes());
  return model.bytes();
}

Expected<std::string> read_spiece_model(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::open(path));
  char start[4] = {};
  if (file->bytes() >= sizeof(start)) LA_RETURN_IF_ERROR(file->read(0, start, sizeof(start)));
  if (std::memcmp(start, "GGUF", sizeof(start)) == 0) {
    LA_ASSIGN_OR_RETURN(GgufVocabulary vocabulary, read_gguf_vocabulary(path));
    return build_spiece_model(vocabulary);
  }
  if (!path.ends_with(".safetensors") && std::memcmp(start, "PK", 2) != 0) return read_all(*file);
  LA_ASSIGN_OR_RETURN(TensorSourcePtr source, open_tensors(path));
  return read_tensor(*source);
}

}  // namespace liveavatar
