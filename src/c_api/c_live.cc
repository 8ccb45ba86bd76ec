// Live sessions of the C API.
#include <span>
#include <utility>

#include "c_api/fields.h"
#include "c_api/objects.h"
#include "liveavatar/live.h"

using liveavatar::call;
using liveavatar::Expected;
using liveavatar::not_null;
using liveavatar::Status;

struct la_live_request {
  liveavatar::LiveRequest request;
  la_live_chunk_callback on_chunk = nullptr;
  la_live_end_callback on_end = nullptr;
  void* user = nullptr;
};
struct la_live {
  std::unique_ptr<liveavatar::LiveSession> session;
};

namespace {

la_live_chunk c_chunk(const liveavatar::LiveChunk& c) {
  la_live_chunk chunk{};
  chunk.first_frame = c.first_frame;
  chunk.frames = c.frames;
  chunk.width = c.width;
  chunk.height = c.height;
  chunk.rgb = c.rgb;
  chunk.audio = c.audio;
  chunk.samples = c.samples;
  chunk.sample_rate = c.sample_rate;
  chunk.speech = c.position.speech;
  chunk.speech_samples = c.position.samples;
  chunk.speech_complete = c.position.complete;
  chunk.queued_samples = c.queued_samples;
  chunk.gaps = c.gaps;
  chunk.late_seconds = c.late_seconds;
  chunk.paused_seconds = c.paused_seconds;
  chunk.hear_seconds = c.times.hear_seconds;
  chunk.sample_seconds = c.times.sample_seconds;
  chunk.decode_seconds = c.times.decode_seconds;
  return chunk;
}

liveavatar::LiveCallbacks callbacks_of(const la_live_request& request) {
  liveavatar::LiveCallbacks callbacks;
  callbacks.on_chunk = [on_chunk = request.on_chunk, user = request.user](const liveavatar::LiveChunk& c) {
    const la_live_chunk chunk = c_chunk(c);
    return on_chunk(&chunk, user) == 0;
  };
  if (request.on_end == nullptr) return callbacks;
  callbacks.on_end = [on_end = request.on_end, user = request.user](const Status& why) {
    on_end(static_cast<la_code>(why.code()), why.message().c_str(), user);
  };
  return callbacks;
}

template <typename Sample>
la_code push(const char* name, la_live* live, std::span<const Sample> samples, char** message) {
  return call(name, message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(live, (std::string(name) + ": live").c_str()));
    if (!samples.empty()) LA_RETURN_IF_ERROR(not_null(samples.data(), (std::string(name) + ": samples").c_str()));
    return live->session->push(samples);
  });
}

Status put(const Expected<int64_t>& changed, int64_t* first_frame) {
  LA_RETURN_IF_ERROR(changed.status());
  if (first_frame != nullptr) *first_frame = *changed;
  return {};
}

}  // namespace

la_live_request* la_live_request_new(void) { return liveavatar::make<la_live_request>(); }
void la_live_request_free(la_live_request* request) { delete request; }

la_code la_live_request_set(la_live_request* request, const char* name, const char* value, char** message) {
  return call("la_live_request_set", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(request, "la_live_request_set: request"));
    LA_RETURN_IF_ERROR(not_null(name, "la_live_request_set: name"));
    LA_RETURN_IF_ERROR(not_null(value, name));
    return set_field(request->request, name, value);
  });
}

la_code la_live_request_set_callbacks(la_live_request* request, la_live_chunk_callback on_chunk,
                                      la_live_end_callback on_end, void* user, char** message) {
  return call("la_live_request_set_callbacks", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(request, "la_live_request_set_callbacks: request"));
    if (on_chunk == nullptr) return liveavatar::invalid_argument("la_live_request_set_callbacks: on_chunk is NULL");
    request->on_chunk = on_chunk;
    request->on_end = on_end;
    request->user = user;
    return {};
  });
}

la_code la_live_open(la_engine* engine, const la_live_request* request, la_live** live, char** message) {
  return call("la_live_open", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(live, "la_live_open: live"));
    *live = nullptr;
    LA_RETURN_IF_ERROR(not_null(engine, "la_live_open: engine"));
    LA_RETURN_IF_ERROR(not_null(request, "la_live_open: request"));
    if (request->on_chunk == nullptr)
      return liveavatar::invalid_argument("la_live_open: no on_chunk; set it with la_live_request_set_callbacks");
    auto opened = std::make_unique<la_live>();
    LA_ASSIGN_OR_RETURN(opened->session, engine->engine->open_live(request->request, callbacks_of(*request)));
    *live = opened.release();
    return {};
  });
}

int64_t la_live_width(const la_live* live) { return live == nullptr ? 0 : live->session->width(); }
int64_t la_live_height(const la_live* live) { return live == nullptr ? 0 : live->session->height(); }

la_code la_live_push(la_live* live, const int16_t* samples, size_t count, char** message) {
  return push<int16_t>("la_live_push", live, {samples, count}, message);
}

la_code la_live_push_float(la_live* live, const float* samples, size_t count, char** message) {
  return push<float>("la_live_push_float", live, {samples, count}, message);
}

la_code la_live_end_speech(la_live* live, char** message) {
  return call("la_live_end_speech", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(live, "la_live_end_speech: live"));
    return live->session->end_speech();
  });
}

la_code la_live_interrupt(la_live* live, la_live_position* position, char** message) {
  return call("la_live_interrupt", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(live, "la_live_interrupt: live"));
    LA_ASSIGN_OR_RETURN(const liveavatar::LivePosition at, live->session->interrupt());
    if (position != nullptr) *position = {at.speech, at.samples, at.complete};
    return {};
  });
}

la_code la_live_set_prompt(la_live* live, const char* prompt, int64_t* first_frame, char** message) {
  return call("la_live_set_prompt", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(live, "la_live_set_prompt: live"));
    LA_RETURN_IF_ERROR(not_null(prompt, "la_live_set_prompt: prompt"));
    return put(live->session->set_prompt(prompt), first_frame);
  });
}

la_code la_live_set_portrait(la_live* live, const char* image, int64_t* first_frame, char** message) {
  return call("la_live_set_portrait", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(live, "la_live_set_portrait: live"));
    LA_RETURN_IF_ERROR(not_null(image, "la_live_set_portrait: image"));
    return put(live->session->set_portrait(image), first_frame);
  });
}

void la_live_close(la_live* live) {
  if (live != nullptr) live->session->close();
}

void la_live_free(la_live* live) { delete live; }
