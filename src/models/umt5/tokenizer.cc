#include "models/umt5/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "core/folder.h"
#include "core/json.h"
#include "models/umt5/clean_text.h"
#include "models/umt5/spiece_model.h"
#include "weights/file_kind.h"

namespace liveavatar {
namespace {

constexpr int kDefaultExtraIds = 300;  // umt5: <extra_id_0> has the highest id

Status no_model(const std::string& path) {
  return corrupt(path + ": holds no SentencePiece model, or a damaged one; download or copy the file again");
}

struct AddedToken {
  std::string text;
  int32_t id = 0;
};

class SentencePieceTokenizer : public Tokenizer {
 public:
  // path: a folder, or a file that is or holds a SentencePiece model.
  Status open(const std::string& path) {
    std::error_code ignored;
    bool folder = std::filesystem::is_directory(path, ignored);
    const std::string model = folder ? path + "/spiece.model" : path;
    if (folder && !may_exist(model))
      return not_found(model + ": missing; the checkpoint's tokenizer folder is incomplete");
    LA_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::open(model));
    LA_RETURN_IF_ERROR(explain_wrong_file(*file));
    LA_ASSIGN_OR_RETURN(std::string bytes, read_spiece_model(model));
    try {
      if (!pieces_.LoadFromSerializedProto(bytes).ok()) return no_model(model);
      Status status;
      if (folder) {
        status = read_json(path + "/tokenizer.json");
      } else {
        add_defaults();
      }
      sort_added();
      return status;
    } catch (const std::exception&) {  // the library's, of a model that contradicts itself
      return no_model(model);
    }
  }

  std::vector<int32_t> encode(std::string_view text, int64_t slots) const override {
    std::vector<int32_t> ids = encode_clean(clean_text(text));
    ids.resize(std::min(ids.size(), static_cast<size_t>(std::max<int64_t>(slots, 1) - 1)));
    ids.push_back(pieces_.eos_id());
    return ids;
  }

  std::vector<int32_t> encode_clean(const std::string& clean) const override {
    std::vector<int32_t> ids;
    size_t begin = 0;
    for (size_t i = 0; i < clean.size();) {
      const AddedToken* token = added_at(clean, i);
      if (token == nullptr) {
        ++i;
        continue;
      }
      encode_piece(clean.substr(begin, i - begin), ids);
      ids.push_back(token->id);
      i = begin = i + token->text.size();
    }
    encode_piece(clean.substr(begin), ids);
    return ids;
  }

 private:
  Status read_json(const std::string& path) {
    if (!may_exist(path)) {
      add_defaults();
      return {};
    }
    LA_ASSIGN_OR_RETURN(nlohmann::json json, read_json_file(path));
    JsonReader read(json, path);
    LA_RETURN_IF_ERROR(read.status());
    if (!json.contains("model") || !json["model"].is_object()) read.fail("not a tokenizer.json (no model)");
    LA_RETURN_IF_ERROR(read.status());
    JsonReader model(json["model"], path + ": model");
    byte_fallback_ = model.flag("byte_fallback", false);
    LA_RETURN_IF_ERROR(model.status());
    const nlohmann::json none = nlohmann::json::array();
    const nlohmann::json& tokens = json.contains("added_tokens") ? json["added_tokens"] : none;
    if (!tokens.is_array()) read.fail("added_tokens is " + json_kind(tokens) + ", it must be a list");
    LA_RETURN_IF_ERROR(read.status());
    for (const auto& token : tokens) {
      JsonReader item(token, path + ": added_tokens");
      int64_t id = item.number("id", 0, std::numeric_limits<int32_t>::max());
      if (!item.has("content")) item.fail("a token has no content");
      add(item.text("content", ""), static_cast<int32_t>(id));
      LA_RETURN_IF_ERROR(item.status());
    }
    return {};
  }
  void add(const std::string& text, int32_t id) {
    if (text.empty()) return;
    added_.push_back({text, id});
  }
  // Once all are there: a tokenizer.json may name very many.
  void sort_added() {
    std::stable_sort(added_.begin(), added_.end(),
                     [](const auto& a, const auto& b) { return a.text.size() > b.text.size(); });
  }
  void add_defaults() {
    for (int id : {pieces_.pad_id(), pieces_.eos_id(), pieces_.bos_id(), pieces_.unk_id()}) {
      if (id >= 0) add(pieces_.IdToPiece(id), id);
    }
    for (int i = 0; i < kDefaultExtraIds; ++i) {
      std::string text = "<extra_id_" + std::to_string(i) + ">";
      int own = pieces_.PieceToId(text);
      bool unknown = own == pieces_.unk_id();
      add(text, unknown ? pieces_.GetPieceSize() + kDefaultExtraIds - 1 - i : own);
    }
  }

  // The longest added token that stands at this place.
  const AddedToken* added_at(const std::string& text, size_t at) const {
    if (text[at] != '<') return nullptr;
    for (const AddedToken& token : added_) {
      if (text.compare(at, token.text.size(), token.text) == 0) return &token;
    }
    return nullptr;
  }

  // Without byte fallback a run of characters outside the vocabulary is one <unk>, where SentencePiece gives bytes.
  void encode_piece(const std::string& text, std::vector<int32_t>& ids) const {
    if (text.empty()) return;
    bool after_unknown = false;
    for (int id : pieces_.EncodeAsIds(text)) {
      bool unknown = !byte_fallback_ && (pieces_.IsByte(id) || pieces_.IsUnknown(id));
      if (!unknown) ids.push_back(id);
      if (unknown && !after_unknown) ids.push_back(pieces_.unk_id());
      after_unknown = unknown;
    }
  }

  sentencepiece::SentencePieceProcessor pieces_;
  std::vector<AddedToken> added_;
  bool byte_fallback_ = false;
};

}  // namespace

Expected<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::string& path) {
  auto tokenizer = std::make_unique<SentencePieceTokenizer>();
  LA_RETURN_IF_ERROR(tokenizer->open(path));
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace liveavatar
