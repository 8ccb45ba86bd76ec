#include "serve/answer_record.h"

#include <algorithm>

namespace liveavatar::serve {

size_t AnswerRecord::add(const std::string& sentence) {
  sentences_.push_back({sentence});
  return sentences_.size() - 1;
}

void AnswerRecord::pushed(size_t sentence, int64_t speech, int64_t samples) {
  sentences_[sentence].speech = speech;
  sentences_[sentence].samples += samples;
}

void AnswerRecord::completed(size_t sentence) { sentences_[sentence].complete = true; }

bool AnswerRecord::has_sound() const {
  return std::any_of(sentences_.begin(), sentences_.end(), [](const Sentence& one) { return one.samples > 0; });
}

bool AnswerRecord::is_past(const LivePosition& position) const {
  int64_t last_speech = -1, samples = 0;  // of it
  for (const Sentence& sentence : sentences_) {
    if (sentence.speech > last_speech) samples = 0;
    last_speech = std::max(last_speech, sentence.speech);
    if (sentence.speech == last_speech) samples += sentence.samples;
  }
  if (position.speech != last_speech) return position.speech > last_speech;
  return position.complete && position.samples >= samples;
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
  std::string kept;
  int64_t left = stops_at.samples;  // of the speech that stops
  for (const Sentence& sentence : sentences_) {
    std::string words;
    if (sentence.samples > 0 && sentence.speech < stops_at.speech) words = sentence.text;
    if (sentence.speech == stops_at.speech) {
      words = words_of(sentence, std::clamp<int64_t>(left, 0, sentence.samples));
      left -= sentence.samples;
    }
    if (!words.empty()) kept += (kept.empty() ? "" : " ") + words;
  }
  return kept;
}

}  // namespace liveavatar::serve
