// Sentences of a text that arrives piece by piece.
#include "voice/sentence_cutter.h"

#include <gtest/gtest.h>

#include <random>

#include "voice/voice.h"

namespace liveavatar {
namespace {

using Sentences = std::vector<std::string>;

Sentences cut(const std::string& text, size_t piece = std::string::npos) {
  SentenceCutter cutter;
  Sentences all;
  for (size_t at = 0; at < text.size(); at += std::min(piece, text.size() - at))
    for (std::string& sentence : cutter.push(std::string_view(text).substr(at, piece)))
      all.push_back(std::move(sentence));
  if (std::string rest = cutter.finish(); !rest.empty()) all.push_back(std::move(rest));
  return all;
}

TEST(SentenceCutter, CutsAfterMarksAndLines) {
  EXPECT_EQ(cut("One. Two! Three?  Four"), (Sentences{"One.", "Two!", "Three?", "Four"}));
  EXPECT_EQ(cut("A line\nand another\n\n"), (Sentences{"A line", "and another"}));
  EXPECT_EQ(cut("\"Really?!\" she said… Yes."), (Sentences{"\"Really?!\"", "she said…", "Yes."}));
  EXPECT_EQ(cut("你好。再见！好"), (Sentences{"你好。", "再见！", "好"}));
}

TEST(SentenceCutter, GoesOnAfterNumbersAndShortForms) {
  EXPECT_EQ(cut("Mr. Smith has 3.5 apples, e.g. red ones. J. Doe too."),
            (Sentences{"Mr. Smith has 3.5 apples, e.g. red ones.", "J. Doe too."}));
  EXPECT_EQ(cut("1. First\n2. Second"), (Sentences{"1. First", "2. Second"}));
}

TEST(SentenceCutter, GivesASentenceAsSoonAsItIsKnown) {
  SentenceCutter cutter;
  EXPECT_TRUE(cutter.push("Hel").empty());
  EXPECT_TRUE(cutter.push("lo.").empty());  // 3.5 or an end
  EXPECT_EQ(cutter.push(" W"), Sentences{"Hello."});
  EXPECT_EQ(cutter.finish(), "W");
  EXPECT_EQ(cutter.finish(), "");
}

TEST(SentenceCutter, IsTheSameForEveryCutOfTheText) {
  const std::string text = "Dr. Who said \"no.\" Then... what? 你好。 1. one\nEnd of 2.0! ok";
  const Sentences whole = cut(text);
  for (size_t piece = 1; piece < 20; ++piece) EXPECT_EQ(cut(text, piece), whole) << piece;
}

TEST(SentenceCutter, DropsWhatCannotBeSpoken) {
  EXPECT_EQ(cut(" . ! ... \n\n ** "), Sentences{});
  EXPECT_FALSE(is_speakable(" -- "));
  EXPECT_TRUE(is_speakable("я"));
}

TEST(SentenceCutter, CutsWhatIsTooLong) {
  std::string words, letters(3000, 'a'), wide;
  for (int i = 0; i < 500; ++i) words += i % 20 == 19 ? "word, " : "word ";
  for (int i = 0; i < 900; ++i) wide += "好";
  for (const std::string& text : {words, letters, wide}) {
    std::string joined;
    for (const std::string& sentence : cut(text)) {
      EXPECT_LE(sentence.size(), kMostSentenceBytes);
      EXPECT_NE(static_cast<unsigned char>(sentence[0]) & 0xC0, 0x80);
      joined += sentence;
    }
    std::string expected = text;
    std::erase(expected, ' ');
    std::erase(joined, ' ');
    EXPECT_EQ(joined, expected);
  }
}

TEST(SentenceCutter, TakesAnyBytes) {
  std::mt19937 random(1);
  for (int run = 0; run < 200; ++run) {
    std::string text;
    for (int i = 0; i < 2000; ++i)
      text +=
          ".! \n\xe3\x80\x82"
          "a\xff"[random() % 9];
    for (const std::string& sentence : cut(text, 1 + random() % 50)) EXPECT_LE(sentence.size(), kMostSentenceBytes);
  }
}

}  // namespace
}  // namespace liveavatar
