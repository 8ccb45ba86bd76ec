// Text that arrives piece by piece, cut where a sentence ends, so that speech begins before all of it is there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace liveavatar {

// A sentence ends with . ! ? or … before white space, with 。！？ or with a line. What is longer than
// kMostSentenceBytes is cut at a comma, else at a space, else between two characters.
class SentenceCutter {
 public:
  // Sentences that are complete now, without white space around them. What cannot be spoken goes with the next one.
  std::vector<std::string> push(std::string_view text);
  // What is left; empty: nothing that can be spoken. Another text may follow.
  std::string finish();

 private:
  size_t end_of_sentence() const;
  std::string text_;
};

// Whether there is a letter or a digit in it, of any script.
bool is_speakable(std::string_view text);

}  // namespace liveavatar
