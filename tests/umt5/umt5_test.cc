// What the goldens do not say: hostile text, missing files, ids beyond the table.
#include "models/umt5/umt5.h"

#include <gtest/gtest.h>

#include "models/umt5/clean_text.h"
#include "models/umt5/tokenizer.h"
#include "ops/make_backend.h"

namespace liveavatar {
namespace {

const std::string kGoldens = std::string(LA_SOURCE_DIR) + "/tests/goldens/";

TEST(CleanText, BrokenUtf8BecomesReplacementCharacters) {
  EXPECT_EQ(clean_text("a\xff\xfe z"), "a\xEF\xBF\xBD\xEF\xBF\xBD z");
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(clean_text("\xed\xa0\x80"), bad + bad + bad);  // a lone surrogate: each of its bytes is bad
  EXPECT_EQ(clean_text("\xf0\x9f\x98"), bad + bad + bad);  // an emoji cut short
  EXPECT_EQ(clean_text(std::string("a\0b", 3)), "ab");
}

TEST(CleanText, CleansCommonInput) {
  EXPECT_EQ(clean_text("  two \t words\n"), "two words");
  EXPECT_EQ(clean_text("&lt;b&gt; &amp;amp; &#x41;&#66;"), "<b> & AB");
  EXPECT_EQ(clean_text("“quotes” ﬁne"), "\"quotes\" fine");
  EXPECT_EQ(clean_text("cafÃ©"), "café");
  EXPECT_EQ(clean_text("UMA MAÇÃ… ’ŉ"), "UMA MAÇÃ… ''n");
  EXPECT_EQ(clean_text("&notanentity; &;&#;&#x;"), "¬anentity; &;&#;&#x;");
}

// Some minutes where marks are sorted in quadratic time, some milliseconds here.
TEST(CleanText, LongRunsOfMarksAreSortedQuickly) {
  EXPECT_EQ(clean_text("e\u0301\u0323"), "\u1eb9\u0301");
  std::string marks = "e", below, above;
  for (int i = 0; i < 100000; ++i) {
    marks += "\u0301\u0323";
    above += "\u0301";
    if (i > 0) below += "\u0323";  // the first one joins the e
  }
  EXPECT_EQ(clean_text(marks), "\u1eb9" + below + above);
}

TEST(Tokenizer, LongAndUnusualPromptsFitTheTokenLimit) {
  auto tokenizer = Tokenizer::load(kGoldens + "tokenizer");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  std::string longest;
  for (int i = 0; i < 20000; ++i) longest += "word ";
  for (const std::string& text : {longest, std::string(1000, '\xff'), std::string("\xF0\x9F\x98\x80"), std::string()}) {
    std::vector<int32_t> ids = (*tokenizer)->encode(text, 512);
    ASSERT_GE(ids.size(), 1u);
    EXPECT_LE(ids.size(), 512u);
    EXPECT_EQ(ids.back(), 1);
  }
  EXPECT_EQ((*tokenizer)->encode("many words here", 1), std::vector<int32_t>{1});
}

TEST(Tokenizer, NamesAMissingModelFile) {
  auto tokenizer = Tokenizer::load(kGoldens + "umt5");
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_NE(tokenizer.status().message().find("spiece.model"), std::string::npos);
}

TEST(Umt5, RefusesForeignWeightsAndIdsOutsideTheVocabulary) {
  Budget budget;
  auto backend = *make_backend("reference", {.threads = 1});
  auto vae = open_safetensors(kGoldens + "vae/weights.safetensors");
  EXPECT_FALSE(Umt5::load(**vae, *backend, DType::kF32).ok());
  auto weights = open_safetensors(kGoldens + "umt5/weights.safetensors");
  auto model = Umt5::load(**weights, *backend, DType::kF32);
  ASSERT_TRUE(model.ok());
  const int32_t beyond[] = {5, 1 << 20};
  EXPECT_FALSE((*model)->encode(beyond, budget).ok());
  EXPECT_FALSE((*model)->encode({}, budget).ok());
}

TEST(Umt5, ReleasesAllItsMemory) {
  Budget budget;
  auto backend = *make_backend("reference", {.threads = 1});
  {
    auto weights = open_safetensors(kGoldens + "umt5/weights.safetensors");
    auto model = Umt5::load(**weights, *backend, DType::kF32);
    const int32_t ids[] = {5, 6, 1};
    EXPECT_TRUE((*model)->encode(ids, budget).ok());
    EXPECT_GT(budget.peak_bytes(), 0u);
    EXPECT_EQ(budget.used_bytes(), 0u);  // the weights only pass through
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
}

}  // namespace
}  // namespace liveavatar
