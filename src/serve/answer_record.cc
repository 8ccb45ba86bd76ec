// What of an answer was played.
#include <algorithm>

#include "serve/conversation.h"

namespace liveavatar::serve {

size_t AnswerRecord::add(const std::string& sentence) {
  sentences_.push_back({sentence});
  return sentences_.size() - 1;
}

void AnswerRecord::pushed(size_t sentence, int64_t speech, int64_t samples) {
  speech_ = speech;
  sentences_[sentence].samples += samples;
}

void AnswerRecord::completed(size_t sentence) { sentences_[sentence].complete = true; }

int64_t AnswerRecord::samples() const {
  int64_t sum = 0;
  for (const Sentence& sentence : sentences_) sum += sentence.samples;
  return sum;
}

bool AnswerRecord::is_past(const LivePosition& position) const {
  if (position.speech != speech_) return position.speech > speech_;
  return position.complete && position.samples >= samples();
}

std::string AnswerRecord::text() const {
  std::string all;
  for (const Sentence& sentence : sentences_)
    if (sentence.samples > 0) all += (all.empty() ? "" : " ") + sentence.text;
  return all;
}

// Where the sound of a sentence is not complete, its length is guessed.
std::string AnswerRecord::words_of(const Sentence& sentence, int64_t samples) const {
  constexpr double kSecondsAByte = 0.06;
  const auto guessed = static_cast<int64_t>(kSecondsAByte * double(sentence.text.size()) * sample_rate_);
  const int64_t whole = sentence.complete ? sentence.samples : std::max(sentence.samples, guessed);
  if (whole <= 0 || samples >= whole) return samples > 0 ? sentence.text : std::string();
  const auto bytes = static_cast<size_t>(double(sentence.text.size()) * double(samples) / double(whole));
  const size_t end = sentence.text.find_last_of(" \t\n", bytes);
  return end == std::string::npos ? std::string() : sentence.text.substr(0, end);
}

std::string AnswerRecord::text_until(const LivePosition& stops_at) const {
  if (speech_ < 0 || stops_at.speech < speech_) return {};
  if (stops_at.speech > speech_) return text();
  std::string kept;
  int64_t left = stops_at.samples;
  for (const Sentence& sentence : sentences_) {
    const std::string words = words_of(sentence, std::min(left, sentence.samples));
    if (!words.empty()) kept += (kept.empty() ? "" : " ") + words;
    left -= sentence.samples;
    if (left <= 0) break;
  }
  return kept;
}

}  // namespace liveavatar::serve
