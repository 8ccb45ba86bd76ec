// The tokenizer: cleaned text, ids and mask, with byte fallback, and with few slots.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "golden.h"
#include "models/umt5/clean_text.h"
#include "models/umt5/tokenizer.h"

namespace liveavatar::golden {
namespace {

std::unique_ptr<Tokenizer> load(const std::string& dir) {
  auto tokenizer = Tokenizer::load(dir);
  if (!tokenizer.ok()) throw std::runtime_error(tokenizer.status().message());
  return *std::move(tokenizer);
}

// The golden's variant folder has only its tokenizer.json; a folder in TMPDIR puts the pieces beside it.
std::unique_ptr<Tokenizer> load_byte_fallback(const Golden& golden) {
  namespace fs = std::filesystem;
  std::string dir = (fs::temp_directory_path() / "golden_tokenizer_XXXXXX").string();
  if (mkdtemp(dir.data()) == nullptr) throw std::runtime_error(dir + ": cannot be made; set TMPDIR");
  const std::string json = golden.config().at("byte_fallback_variant");
  std::error_code error;
  fs::copy_file(golden.path("spiece.model"), dir + "/spiece.model", error);
  if (!error) fs::copy_file(golden.path(json), dir + "/tokenizer.json", error);
  Expected<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(dir);
  std::error_code ignored;
  fs::remove_all(dir, ignored);
  if (error) throw std::runtime_error(dir + ": " + error.message());
  if (!tokenizer.ok()) throw std::runtime_error(tokenizer.status().message());
  return *std::move(tokenizer);
}

// Rows that lie one after the other without padding.
class FlatRows {
 public:
  explicit FlatRows(std::vector<int32_t> ids) : ids_(std::move(ids)) {}
  bool next_equals(const std::vector<int32_t>& got, size_t tokens) {
    if (at_ + tokens > ids_.size()) throw std::runtime_error("a flat row reaches beyond its tensor");
    auto first = ids_.begin() + std::ptrdiff_t(at_);
    at_ += tokens;
    return std::equal(got.begin(), got.end(), first, first + std::ptrdiff_t(tokens));
  }

 private:
  std::vector<int32_t> ids_;
  size_t at_ = 0;
};

// The golden itself flags rows that its rule for SentencePiece does not reproduce: literal byte-piece names, which the
// reference's lattice matches as ordinary pieces. Returns 1 for such a difference, which is printed and not a failure.
int check_ids(const Golden& golden, const nlohmann::json& call, const std::string& flag, const std::string& name,
              bool equal) {
  if (!equal && call.value(flag, false)) {
    std::printf("note %s: differs, as the golden's notes expect\n", name.c_str());
    return 1;
  }
  golden.exact(name, equal);
  return 0;
}

}  // namespace

void check_tokenizer(const Golden& golden) {
  auto plain = load(golden.dir), bytes = load_byte_fallback(golden);
  size_t slots = golden.config().at("seq_len"), few = golden.config().at("short_seq_len");
  std::vector<int32_t> ids = golden.i32("ids"), mask = golden.i32("mask");
  FlatRows short_rows(golden.i32("ids_short_flat")), byte_rows(golden.i32("ids_byte_fallback_flat"));
  int known = 0;
  for (const auto& call : golden.calls()) {
    const std::string text = call.at("in").at("text");
    const size_t row = call.at("args").at("row");
    const std::string name = "row " + std::to_string(row);
    const auto& out = call.at("out");
    std::string clean = clean_text(text);
    golden.exact(name + " cleaned", clean == out.at("cleaned"), "got '" + clean + "'");

    std::vector<int32_t> got = plain->encode(text, int64_t(slots));
    bool equal = got.size() == out.at("tokens").get<size_t>();
    for (size_t i = 0; i < slots; ++i) {
      bool real = i < got.size();
      equal = equal && mask[row * slots + i] == int(real) && ids[row * slots + i] == (real ? got[i] : 0);
    }
    known += check_ids(golden, call, "rule_in_notes_differs", name + " ids", equal);
    equal = short_rows.next_equals(plain->encode(text, int64_t(few)), out.at("tokens_short"));
    known += check_ids(golden, call, "rule_in_notes_differs", name + " short ids", equal);
    equal = byte_rows.next_equals(bytes->encode(text, int64_t(slots)), out.at("tokens_byte_fallback"));
    known += check_ids(golden, call, "rule_in_notes_differs_byte_fallback", name + " byte fallback ids", equal);
  }
  std::printf("%d rows differ as the golden's notes expect\n", known);
}

}  // namespace liveavatar::golden
