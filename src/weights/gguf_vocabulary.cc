#include "weights/gguf_vocabulary.h"

#include "weights/gguf_reader.h"

namespace liveavatar {
namespace {

constexpr uint64_t kMaxTokens = 4u << 20;
constexpr const char* kKeys = "tokenizer.ggml.";

class VocabularyReader {
 public:
  explicit VocabularyReader(GgufReader& reader) : reader_(reader) {}

  bool read_key(const GgufKey& key) {
    if (!key.name.starts_with(kKeys)) return false;
    std::string what = key.name.substr(std::string(kKeys).size());
    if (key.type == GgufValue::kArray) return key.count <= kMaxTokens && read_array(what, key);
    if (key.type == GgufValue::kU32) return read_id(what);
    if (key.type == GgufValue::kBoolean) return read_flag(what);
    return false;
  }
  GgufVocabulary take() { return std::move(vocabulary_); }

 private:
  bool read_array(const std::string& what, const GgufKey& key) {
    GgufVocabulary& v = vocabulary_;
    bool repeated = (what == "tokens" && !v.tokens.empty()) || (what == "scores" && !v.scores.empty()) ||
                    (what == "token_type" && !v.types.empty());
    if (repeated) return false;
    if (what == "tokens" && key.item == GgufValue::kString) {
      for (uint64_t i = 0; i < key.count && reader_.status().ok(); ++i) v.tokens.push_back(reader_.text());
    } else if (what == "scores" && key.item == GgufValue::kFloat32) {
      for (uint64_t i = 0; i < key.count && reader_.status().ok(); ++i) v.scores.push_back(reader_.number<float>());
    } else if (what == "token_type" && (key.item == GgufValue::kI32 || key.item == GgufValue::kU32)) {
      for (uint64_t i = 0; i < key.count && reader_.status().ok(); ++i) v.types.push_back(reader_.number<int32_t>());
    } else if (what == "precompiled_charsmap" && (key.item == GgufValue::kU8 || key.item == GgufValue::kI8)) {
      v.precompiled_charsmap.resize(key.count);
      reader_.bytes(v.precompiled_charsmap.data(), key.count);
    } else {
      return false;
    }
    return true;
  }
  bool read_id(const std::string& what) {
    int32_t* to = what == "unknown_token_id"   ? &vocabulary_.unknown_id
                  : what == "eos_token_id"     ? &vocabulary_.eos_id
                  : what == "padding_token_id" ? &vocabulary_.pad_id
                                               : nullptr;
    if (to == nullptr) return false;
    *to = reader_.number<int32_t>();
    return true;
  }
  bool read_flag(const std::string& what) {
    bool* to = what == "add_space_prefix"           ? &vocabulary_.add_space_prefix
               : what == "remove_extra_whitespaces" ? &vocabulary_.remove_extra_whitespaces
                                                    : nullptr;
    if (to == nullptr) return false;
    *to = reader_.number<uint8_t>() != 0;
    return true;
  }

  GgufReader& reader_;
  GgufVocabulary vocabulary_;
};

}  // namespace

Expected<GgufVocabulary> read_gguf_vocabulary(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::open(path));
  GgufReader reader(file);
  LA_ASSIGN_OR_RETURN(GgufCounts counts, read_gguf_start(reader));
  VocabularyReader keys(reader);
  LA_RETURN_IF_ERROR(read_gguf_pairs(reader, counts.pairs, [&](const GgufKey& key) { return keys.read_key(key); }));
  GgufVocabulary vocabulary = keys.take();
  if (vocabulary.tokens.empty())
    return not_found(path + ": holds no tokenizer; give the tokenizer's folder or spiece.model");
  size_t count = vocabulary.tokens.size();
  if (vocabulary.scores.size() != count || vocabulary.types.size() != count)
    return corrupt(path + ": its tokenizer has " + std::to_string(count) + " tokens, but not as many scores and types");
  return vocabulary;
}

}  // namespace liveavatar
