#include "serve/conversation.h"

#include <utility>

#include "core/boundary.h"
#include "core/json.h"
#include "serve/errors.h"
#include "serve/live_events.h"
#include "voice/resampler.h"
#include "voice/sentence_cutter.h"

namespace liveavatar::serve {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kHeardHz = 16000;  // of the sound that is transcribed

// What another server did wrong.
std::string failed_event(const char* code, const char* who, const Status& status) {
  return error_event(502, code, failure_of(who, status));
}

}  // namespace

Conversation::Conversation(Setup setup, Speaker& speaker)
    : setup_(std::move(setup)), speaker_(speaker), activity_(setup_.sample_rate), thread_([this] { run(); }) {}

Conversation::~Conversation() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  stop_.request_stop();
  cancel();
  changed_.notify_all();
  thread_.join();
}

bool Conversation::is_answering() const {
  std::lock_guard lock(mutex_);
  return answer_ != nullptr;
}

bool Conversation::hear(std::span<const int16_t> samples, std::vector<std::string>& events) {
  bool begins = false;
  activity_.push(samples, [&](VoiceActivity::Event event) { take_event(event, begins, events); });
  return begins;
}

void Conversation::end_utterance(std::vector<std::string>& events) {
  bool ignored = false;
  take_event(activity_.end_now(), ignored, events);
}

void Conversation::take_event(VoiceActivity::Event event, bool& begins, std::vector<std::string>& events) {
  std::lock_guard lock(mutex_);
  take_event_locked(event, begins, events);
}

void Conversation::take_event_locked(VoiceActivity::Event event, bool& begins, std::vector<std::string>& events) {
  if (event == VoiceActivity::Event::kNone) return;
  const bool speaks = event == VoiceActivity::Event::kBegins;
  events.push_back(json_text(Json{{"type", "hearing"}, {"speaks", speaks}}));
  begins = begins || speaks;
  visitor_speaks_ = speaks;
  if (event == VoiceActivity::Event::kEnds) {
    if (inputs_.size() < kMostInputs) {
      inputs_.push_back({activity_.take(), {}});
    } else {
      events.push_back(error_event(429, "queue_full", "the transcription is behind; what was said last is not heard"));
    }
  }
  changed_.notify_all();
}

// What was said so far and the text under one lock: the thread that answers must find both.
Status Conversation::ask(std::string text) {
  std::vector<std::string> events;
  bool ignored = false;
  std::lock_guard lock(mutex_);
  take_event_locked(activity_.end_now(), ignored, events);
  told_.insert(told_.end(), events.begin(), events.end());
  changed_.notify_all();
  if (inputs_.size() >= kMostInputs) return out_of_memory("too much waits to be answered; send it later");
  inputs_.push_back({{}, std::move(text)});
  return {};
}

void Conversation::cancel() {
  std::lock_guard lock(mutex_);
  wants_answer_ = wants_answer_ && visitor_speaks_;
  if (!answer_) return;
  answer_->is_cut = true;
  answer_->stop.request_stop();
}

// The chat knows what was heard, and nothing else.
std::string Conversation::close_answer(const std::string& kept, bool interrupted) {
  const std::shared_ptr<Answer> answer = std::exchange(answer_, nullptr);
  history_.add({true, kept});
  changed_.notify_all();  // what came meanwhile may be answered
  return json_text(Json{{"type", "answered"}, {"turn", answer->turn}, {"text", kept}, {"interrupted", interrupted}});
}

std::vector<std::string> Conversation::interrupted(const LivePosition& stops_at) {
  std::lock_guard lock(mutex_);
  if (!answer_) return {};
  return {close_answer(answer_->record.text_until(stops_at), true)};
}

std::vector<std::string> Conversation::played(const LivePosition& position) {
  std::lock_guard lock(mutex_);
  if (!answer_ || !answer_->all_pushed || !answer_->record.is_past(position)) return {};
  return {close_answer(answer_->record.text(), false)};
}

// What is thrown ends neither the thread nor the conversation.
void Conversation::run() {
  bool goes_on = true;
  while (goes_on) {
    static_cast<void>(contained("the conversation", [&]() -> Status {
      goes_on = take_turn();
      return {};
    }));
  }
}

// false: it has ended.
bool Conversation::take_turn() {
  std::unique_lock lock(mutex_);
  // A visitor who goes on before the answer has begun is answered when all is said.
  auto may_answer = [&] { return wants_answer_ && !visitor_speaks_ && !answer_; };
  changed_.wait(lock, [&] { return ended_ || !told_.empty() || !inputs_.empty() || may_answer(); });
  if (ended_) return false;
  const std::vector<std::string> told = std::exchange(told_, {});
  Input input;
  const bool has_input = !inputs_.empty();
  if (has_input) {
    input = std::move(inputs_.front());
    inputs_.pop_front();
  }
  const bool answers = !has_input && may_answer();
  lock.unlock();
  for (const std::string& event : told) setup_.post(event);
  if (has_input) understand(input);
  if (answers) begin_answer();
  return true;
}

void Conversation::begin_answer() {
  std::shared_ptr<Answer> made;
  std::vector<ChatMessage> messages;
  {
    std::lock_guard lock(mutex_);
    if (!wants_answer_ || visitor_speaks_) return;  // since then
    wants_answer_ = false;
    made = std::make_shared<Answer>(Answer{turn_, {}, AnswerRecord(setup_.sample_rate)});
    messages.assign(history_.messages().begin(), history_.messages().end());
    answer_ = made;
  }
  const Status done = contained("failed", [&]() -> Status {
    answer(made, messages);
    return {};
  });
  if (!done.ok()) give_up(made, failed_event("chat", "the chat", done));
}

// Nothing more of it is made. What the session has of it is heard, so the chat knows that.
void Conversation::give_up(const std::shared_ptr<Answer>& answer, const std::string& failure) {
  std::string event;
  {
    std::lock_guard lock(mutex_);
    answer->stop.request_stop();
    // interrupted() closes one that is cut: it knows what was played.
    if (answer_ == answer && !answer->is_cut) event = close_answer(answer->record.text(), true);
  }
  if (!failure.empty()) setup_.post(failure);
  if (!event.empty()) setup_.post(event);
}

Expected<std::string> Conversation::text_of(const Input& input) {
  if (!input.text.empty()) return input.text;
  Resampler resampler(setup_.sample_rate, kHeardHz);
  const std::span<const int16_t> most = resampler.push(input.sound);
  std::vector<int16_t> sound(most.begin(), most.end());
  const std::span<const int16_t> rest = resampler.finish();
  sound.insert(sound.end(), rest.begin(), rest.end());
  return setup_.transcribe(sound, kHeardHz, stop_.get_token());
}

void Conversation::understand(const Input& input) {
  const auto text = contained("failed", [&] { return text_of(input); });
  if (!text.ok()) {
    if (!stop_.stop_requested()) setup_.post(failed_event("transcription", "the transcription", text.status()));
    return;
  }
  int64_t turn = 0;
  {
    std::lock_guard lock(mutex_);
    turn = text->empty() ? turn_ : ++turn_;
    history_.add({false, *text});
    wants_answer_ = wants_answer_ || !text->empty();
  }
  setup_.post(json_text(Json{{"type", "heard"}, {"turn", turn}, {"text", *text}}));
}

void Conversation::answer(const std::shared_ptr<Answer>& answer, const std::vector<ChatMessage>& messages) {
  const std::stop_token stop = answer->stop.get_token();
  const std::stop_callback with_all(stop_.get_token(), [&] { answer->stop.request_stop(); });
  SentenceCutter cutter;
  Status given;  // to the speaker
  auto give = [&](const std::string& sentence) {
    if (given.ok()) given = speak(answer, sentence);
    if (!given.ok()) answer->stop.request_stop();
  };
  const TextSink take = [&](std::string_view text) {
    if (stop.stop_requested()) return;
    setup_.post(json_text(Json{{"type", "answer"}, {"turn", answer->turn}, {"text", std::string(text)}}));
    for (const std::string& sentence : cutter.push(text)) give(sentence);
  };
  const Status status = setup_.chat(messages, take, stop);
  if (!status.ok() && !stop.stop_requested()) setup_.post(failed_event("chat", "the chat", status));
  const std::string rest = cutter.finish();
  if (!rest.empty()) give(rest);
  if (given.ok()) given = finish(answer);
  if (given.ok()) return;
  const bool has_ended = given.code() == ErrorCode::kCancelled;  // the session
  give_up(answer, has_ended ? std::string() : error_event(502, "speech", given.message()));
}

Status Conversation::speak(const std::shared_ptr<Answer>& answer, const std::string& sentence) {
  std::lock_guard given(mutex_);  // cancel() drops what was given to the speaker, and nothing is given after it
  if (answer->stop.stop_requested()) return {};
  const size_t number = answer->record.add(sentence);
  Speaker::Text text{{sentence, {}}, false, answer->stop.get_token(), {}, {}};
  text.on_sound = [this, answer, number](int64_t speech, int64_t samples) {
    std::lock_guard lock(mutex_);
    answer->record.pushed(number, speech, samples);
  };
  text.on_end = [this, answer, number](const Status& spoken) {
    std::unique_lock lock(mutex_);
    if (spoken.ok()) return answer->record.completed(number);
    lock.unlock();
    if (spoken.code() == ErrorCode::kCancelled || answer->stop.stop_requested()) return;
    answer->stop.request_stop();  // the next sentence would fail too
    setup_.post(failed_event("speech", "the voice", spoken));
  };
  return speaker_.say(std::move(text));
}

// Behind the last sentence.
Status Conversation::finish(const std::shared_ptr<Answer>& answer) {
  std::lock_guard given(mutex_);
  if (answer->is_cut) return {};
  Speaker::Text text;
  text.on_end = [this, answer](const Status&) {
    std::string event;
    {
      std::lock_guard lock(mutex_);
      if (answer_ != answer) return;
      answer->all_pushed = true;
      if (!answer->record.has_sound()) event = close_answer({}, false);
    }
    if (!event.empty()) setup_.post(event);
  };
  return speaker_.say(std::move(text));
}

}  // namespace liveavatar::serve
