// What of an answer was pushed, sentence by sentence, and so what of it was played.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "liveavatar/live.h"

namespace liveavatar::serve {

// One thread at a time. Each sentence is within one speech. Another text may be said between two sentences: it ends the
// speech, and stands behind all of the answer that is in it.
class AnswerRecord {
 public:
  explicit AnswerRecord(int sample_rate) : sample_rate_(sample_rate) {}
  size_t add(const std::string& sentence);  // -> its number
  void pushed(size_t sentence, int64_t speech, int64_t samples);
  void completed(size_t sentence);  // no more sound of it comes
  bool is_past(const LivePosition& position) const;
  bool has_sound() const;
  std::string text() const;  // of the sentences that have sound
  // Of a sentence that was cut off, the words that its share of the sound has.
  std::string text_until(const LivePosition& stops_at) const;

 private:
  struct Sentence {
    std::string text;
    int64_t speech = -1;  // -1: it has no sound yet
    int64_t samples = 0;
    bool complete = false;
  };
  std::string words_of(const Sentence& sentence, int64_t samples) const;
  const int sample_rate_;
  std::vector<Sentence> sentences_;
};

}  // namespace liveavatar::serve
