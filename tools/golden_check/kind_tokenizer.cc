// The tokenizer: cleaned text, ids and mask, with byte fallback, and with few slots.
#include <algorithm>
#include <cstdio>
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

}  // namespace

void check_tokenizer(const Golden& golden) {
  auto plain = load(golden.dir);
  int64_t slots = golden.config().at("seq_len"), few = golden.config().at("short_seq_len");
  std::vector<int32_t> ids = golden.i32("ids"), mask = golden.i32("mask"), short_ids = golden.i32("ids_short_flat");
  size_t short_at = 0;
  int known = 0;
  for (const auto& call : golden.calls()) {
    std::string text = call.at("in").at("text"), name = "row " + std::to_string(call.at("args").at("row").get<int>());
    size_t row = call.at("args").at("row"), tokens_short = call.at("out").at("tokens_short");
    std::string clean = clean_text(text);
    golden.exact(name + " cleaned", clean == call.at("out").at("cleaned"), "got '" + clean + "'");
    std::vector<int32_t> got = plain->encode(text, slots), got_short = plain->encode(text, few);
    bool equal = got_short == std::vector<int32_t>(short_ids.begin() + std::ptrdiff_t(short_at),
                                                   short_ids.begin() + std::ptrdiff_t(short_at + tokens_short));
    short_at += tokens_short;
    for (size_t i = 0; i < size_t(slots); ++i) {
      bool real = i < got.size();
      equal =
          equal && mask[row * size_t(slots) + i] == int(real) && ids[row * size_t(slots) + i] == (real ? got[i] : 0);
    }
    // The golden marks texts with literal byte-piece names, whose ids the reference takes from the added vocabulary.
    bool marked = call.contains("rule_in_notes_differs") || call.at("out").contains("rule_in_notes_differs") ||
                  call.at("args").contains("rule_in_notes_differs");
    if (marked && !equal) {
      std::printf("note %s ids: differs, as the golden's notes expect\n", name.c_str());
      ++known;
    } else {
      golden.exact(name + " ids", equal, "got " + std::to_string(got.size()) + " tokens");
    }
  }
  std::printf("%d rows differ as the golden's notes expect\n", known);
}

}  // namespace liveavatar::golden
