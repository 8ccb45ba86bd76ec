#include "serve/live_events.h"

#include <algorithm>

#include "serve/small_json.h"

namespace liveavatar::serve {
namespace {

using Json = nlohmann::ordered_json;

double rounded(double value) { return double(int64_t(value * 1e6 + (value < 0 ? -0.5 : 0.5))) / 1e6; }
// In the video.
double begin_s(const LiveChunk& chunk) { return rounded(double(chunk.first_frame) / 25); }
double end_s(const LiveChunk& chunk) { return rounded(double(chunk.first_frame + chunk.frames) / 25); }

constexpr std::pair<const char*, LiveEvent::Type> kTypes[] = {{"start", LiveEvent::Type::kStart},
                                                              {"end_speech", LiveEvent::Type::kEndSpeech},
                                                              {"interrupt", LiveEvent::Type::kInterrupt},
                                                              {"set_prompt", LiveEvent::Type::kSetPrompt},
                                                              {"set_portrait", LiveEvent::Type::kSetPortrait},
                                                              {"stop", LiveEvent::Type::kStop},
                                                              {"ping", LiveEvent::Type::kPing},
                                                              {"say", LiveEvent::Type::kSay},
                                                              {"ask", LiveEvent::Type::kAsk}};

// A misspelt field would be a default that nobody asked for, as of the sample rate.
Status check_start_fields(const nlohmann::json& body) {
  constexpr std::string_view kFields[] = {
      "type",          "portrait",     "prompt",       "size",        "fit",          "seed",
      "infer_frames",  "sample_steps", "sample_shift", "sample_rate", "look_ahead_s", "microphone",
      "allow_changes", "push",         "converse",     "format",      "audio"};
  for (const auto& item : body.items())
    if (std::find(std::begin(kFields), std::end(kFields), item.key()) == std::end(kFields))
      return invalid_argument("start: the field " + json_kind(item.key()) +
                              " is not known; docs/asyncapi.yaml has all");
  return {};
}

}  // namespace

Expected<LiveEvent> parse_live_event(std::string_view text) {
  LiveEvent event;
  LA_ASSIGN_OR_RETURN(event.body, parse_small_json(std::string(text), "the event"));
  JsonReader reader(event.body, "the event");
  const std::string type = reader.text("type", "");
  LA_RETURN_IF_ERROR(client_error(reader.status()));
  for (const auto& [name, value] : kTypes) {
    event.type = value;
    if (type == name) return event;
  }
  return invalid_argument("the event's type is " + json_kind(event.body["type"]) +
                          "; send start, say, ask, end_speech, interrupt, set_prompt, set_portrait, stop or ping");
}

Expected<LiveStart> parse_live_start(const nlohmann::json& body) {
  LiveStart start;
  LiveRequest& r = start.request;
  JsonReader reader(body, "start");
  start.portrait = reader.text("portrait", "");
  r.prompt = reader.text("prompt", "");
  r.size = reader.text("size", "");
  r.sample_rate = static_cast<int>(reader.number("sample_rate", 1, 1000000, r.sample_rate));
  r.sample_steps = static_cast<int>(reader.number("sample_steps", 1, 1000, r.sample_steps));
  r.infer_frames = reader.number("infer_frames", 1, 4800, r.infer_frames);
  r.sample_shift = reader.real("sample_shift", 0.01, 100, r.sample_shift);
  r.seed = static_cast<uint64_t>(reader.number("seed", 0, INT64_MAX, static_cast<int64_t>(r.seed)));
  r.look_ahead_seconds = reader.real("look_ahead_s", 0, 0.4, r.look_ahead_seconds);
  r.microphone = reader.flag("microphone", false);
  r.allow_changes = reader.flag("allow_changes", false);
  start.push = reader.text("push", "");
  start.converse = reader.flag("converse", false);
  const std::string format = reader.text("format", "mp4"), fit = reader.text("fit", fit_name(r.fit));
  const std::string audio = reader.text("audio", "pcm");
  LA_RETURN_IF_ERROR(client_error(reader.status()));
  LA_RETURN_IF_ERROR(check_start_fields(body));
  LA_ASSIGN_OR_RETURN(r.fit, parse_fit(fit));
  if (format != "raw" && format != "mp4") return invalid_argument("start: format is \"mp4\" or \"raw\"");
  start.format = format == "raw" ? LiveFormat::kRaw : LiveFormat::kMp4;
  if (audio != "pcm" && audio != "webm" && audio != "ogg")
    return invalid_argument("start: audio is \"pcm\", \"webm\" or \"ogg\"");
  if (audio != "pcm") start.container = audio;
  if (start.converse) r.microphone = false;  // what is spoken is made here
  if (start.portrait.empty())
    return invalid_argument("start: portrait is missing; give the name of one that was PUT, or an image in base64");
  return start;
}

std::string error_event(int status, const std::string& code, const std::string& message) {
  return json_text(Json{{"type", "error"}, {"code", code}, {"message", message}, {"status", status}});
}

std::string push_error_event(const std::string& name, const std::string& code, const std::string& message) {
  return json_text(Json{{"type", "push_error"}, {"push", name}, {"code", code}, {"message", message}});
}

double PlaybackEvents::seconds(int64_t samples) const { return rounded(double(samples) / sample_rate_); }

bool PlaybackEvents::begins_speech() const { return speeches_.empty() || speeches_.back().ended; }

bool PlaybackEvents::is_full() const { return begins_speech() && speeches_.size() >= kMostSpeeches; }

void PlaybackEvents::pushed(int64_t samples) {
  if (samples == 0) return;
  if (begins_speech()) speeches_.push_back({next_++});
  speeches_.back().samples += samples;
}

void PlaybackEvents::end_speech() {
  if (!speeches_.empty()) speeches_.back().ended = true;
}

std::string PlaybackEvents::dropped(const Speech& speech) const {
  return json_text(
      Json{{"type", "playback_finished"}, {"speech", speech.number}, {"position_s", 0.0}, {"interrupted", true}});
}

std::string PlaybackEvents::finished(const Speech& speech, const LiveChunk& chunk) const {
  return json_text(Json{{"type", "playback_finished"},
                        {"speech", speech.number},
                        {"position_s", seconds(speech.samples)},
                        {"interrupted", speech.interrupted},
                        {"time_s", end_s(chunk)}});
}

std::vector<std::string> PlaybackEvents::interrupted(const LivePosition& stops_at) {
  std::vector<std::string> events;
  for (Speech& speech : speeches_) {
    const bool all_plays = speech.number < stops_at.speech;
    if (all_plays) continue;
    const int64_t plays = speech.number == stops_at.speech ? stops_at.samples : 0;
    speech.interrupted = !speech.ended || plays < speech.samples;
    speech.samples = plays;
    speech.ended = true;
    if (plays == 0) events.push_back(dropped(speech));
  }
  std::erase_if(speeches_, [](const Speech& speech) { return speech.ended && speech.samples == 0; });
  return events;
}

std::vector<std::string> PlaybackEvents::begins(const LiveChunk& chunk) {
  std::vector<std::string> events;
  for (Speech& speech : speeches_) {
    if (speech.begun || speech.number > chunk.position.speech) continue;
    speech.begun = true;
    events.push_back(
        json_text(Json{{"type", "playback_started"}, {"speech", speech.number}, {"time_s", begin_s(chunk)}}));
  }
  return events;
}

std::vector<std::string> PlaybackEvents::ends(const LiveChunk& chunk) {
  std::vector<std::string> events;
  while (!speeches_.empty() && speeches_.front().begun) {
    const Speech& speech = speeches_.front();
    const bool is_past = speech.number < chunk.position.speech;
    const bool is_done = is_past || (speech.ended && chunk.position.samples >= speech.samples);
    if (!is_done) break;
    events.push_back(finished(speech, chunk));
    speeches_.pop_front();
  }
  return events;
}

std::string stats_event(const LiveChunk& last, const BlockStats& stats) {
  const double rate = last.sample_rate;
  Json event{{"type", "stats"},
             {"block", stats.block},
             {"time_s", end_s(last)},
             {"hear_ms", rounded(last.times.hear_seconds * 1000)},
             {"sample_ms", rounded(last.times.sample_seconds * 1000)},
             {"decode_ms", rounded(stats.decode_seconds * 1000)},
             {"encode_ms", rounded(stats.encode_seconds * 1000)},
             {"send_ms", rounded(stats.send_seconds * 1000)},
             {"late_s", rounded(last.late_seconds)},
             {"paused_s", rounded(last.paused_seconds)},
             {"gaps", last.gaps},
             {"queued_s", rounded(double(last.queued_samples) / rate)}};
  if (stats.push)
    event["push"] = {{"connected", stats.push->connected},
                     {"sent_frames", stats.push->sent_frames},
                     {"dropped_frames", stats.push->dropped_frames},
                     {"connections", stats.push->connections}};
  return json_text(event);
}

}  // namespace liveavatar::serve
