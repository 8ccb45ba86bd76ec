#include "serve/routes.h"

#include <string_view>

namespace liveavatar::serve {
namespace {

constexpr const char *kSse = "text/event-stream", *kText = "text/plain", *kBytes = "application/octet-stream";
constexpr RouteParameter kId{"id", "path", "Of the video, as POST /v1/videos answered"};
constexpr RouteParameter kName{"name", "path", "1 to 64 letters, digits, \"-\" and \"_\""};
constexpr RouteParameter kRange{"Range", "header", "bytes=FROM-TO, of a video that is complete"};
const RouteAnswer kBadInput{400, "What is wrong with the request", "application/json", "Error"};
const RouteAnswer kUnknown{404, "There is none of that name", "application/json", "Error"};
const RouteAnswer kNotNow{503, "Not now: loading, draining, a full queue, or no memory; the message says which",
                          "application/json", "Error"};
const RouteAnswer kTaken{503, "A job runs, or all sessions are taken: Retry-After says when to ask again",
                         "application/json", "Error"};
constexpr RouteParameter kPortraitQuery{"portrait", "query", "The name of one that is kept", true};
constexpr RouteParameter kPromptQuery{"prompt", "query", "A sentence that describes the person and the scene"};
constexpr RouteParameter kSizeQuery{"size", "query",
                                    "An area, as \"704*384\"; the portrait's aspect decides the shape"};
constexpr RouteParameter kFitQuery{"fit", "query", "cover, or original: the Python original's rule"};
constexpr RouteParameter kSeedQuery{"seed", "query", "Same seed, same video"};

std::vector<Route> make_routes() {
  return {
      {RouteId::kPage, "GET", "/", "The page", {}, RouteBody::kNone, {{200, "HTML", "text/html"}}, true},
      {RouteId::kHealth,
       "GET",
       "/health",
       "Whether work is taken",
       {},
       RouteBody::kNone,
       {{200, "It is", "application/json", "Health"}, {503, "Not yet, or not any more", "application/json", "Health"}},
       true},
      {RouteId::kMetrics, "GET", "/metrics", "Numbers for Prometheus", {}, RouteBody::kNone, {{200, "Text", kText}}},
      {RouteId::kOpenApi,
       "GET",
       "/openapi.json",
       "This description",
       {},
       RouteBody::kNone,
       {{200, "OpenAPI 3.1"}},
       true},
      {RouteId::kModels,
       "GET",
       "/v1/models",
       "The resident model",
       {},
       RouteBody::kNone,
       {{200, "A list of one", "application/json", "Models"}, kNotNow}},
      {RouteId::kCreateVideo,
       "POST",
       "/v1/videos",
       "Queue a job: a portrait and a voice become a video",
       {},
       RouteBody::kVideo,
       {{202, "It waits", "application/json", "Video"},
        kBadInput,
        kUnknown,
        {413, "The body is too large", "application/json", "Error"},
        {415, "The body's content type is neither multipart/form-data nor application/json", "application/json",
         "Error"},
        kNotNow}},
      {RouteId::kListVideos,
       "GET",
       "/v1/videos",
       "All jobs, the newest first",
       {},
       RouteBody::kNone,
       {{200, "A list", "application/json", "Videos"}}},
      {RouteId::kGetVideo,
       "GET",
       "/v1/videos/{id}",
       "State, progress and timings of a job",
       {kId},
       RouteBody::kNone,
       {{200, "The job", "application/json", "Video"}, kUnknown}},
      {RouteId::kDeleteVideo,
       "DELETE",
       "/v1/videos/{id}",
       "Cancel a job that has not ended, or forget one that has, with its video",
       {kId},
       RouteBody::kNone,
       {{200, "Its state now", "application/json", "Video"}, kUnknown}},
      {RouteId::kVideoEvents,
       "GET",
       "/v1/videos/{id}/events",
       "The job's states as server-sent events, to its end",
       {kId},
       RouteBody::kNone,
       {{200, "Events, each with a Video", kSse}, kUnknown}},
      {RouteId::kVideoContent,
       "GET",
       "/v1/videos/{id}/content",
       "The video; while the job runs it comes as it is made",
       {kId, kRange},
       RouteBody::kNone,
       {{200, "All of it", "video/mp4"},
        {206, "A range", "video/mp4"},
        kUnknown,
        {409, "The job has no video: it waits, failed or was cancelled", "application/json", "Error"},
        {416, "The video is shorter", "application/json", "Error"}}},
      {RouteId::kListPortraits,
       "GET",
       "/v1/portraits",
       "The portraits that are kept",
       {},
       RouteBody::kNone,
       {{200, "A list", "application/json", "Portraits"}}},
      {RouteId::kPutPortrait,
       "PUT",
       "/v1/portraits/{name}",
       "Keep a portrait by name until the server ends",
       {kName},
       RouteBody::kImage,
       {{200, "It is kept", "application/json", "Portrait"}, kBadInput, kNotNow}},
      {RouteId::kGetPortrait,
       "GET",
       "/v1/portraits/{name}",
       "The image as it was sent",
       {kName},
       RouteBody::kNone,
       {{200, "The image", kBytes}, kUnknown}},
      {RouteId::kDeletePortrait,
       "DELETE",
       "/v1/portraits/{name}",
       "Forget a portrait",
       {kName},
       RouteBody::kNone,
       {{204, "It is gone", ""}, kUnknown}},
      {RouteId::kLive,
       "GET",
       "/v1/live",
       "A live session, as a WebSocket (docs/asyncapi.yaml)",
       {},
       RouteBody::kNone,
       {{101, "The socket is open", ""},
        {403, "The page's origin is not allowed", "application/json", "Error"},
        {426, "This is no WebSocket", "application/json", "Error"},
        kTaken}},
      {RouteId::kOpenWhep,
       "POST",
       "/v1/live/whep",
       "A live session over WebRTC: WHEP, and the microphone of the same offer speaks (docs/serve.md)",
       {kPortraitQuery, kPromptQuery, kSizeQuery, kFitQuery, kSeedQuery},
       RouteBody::kSdp,
       {{201, "The answer, with all candidates; Location is the session", "application/sdp"},
        kBadInput,
        kUnknown,
        {415, "The body is no application/sdp", "application/json", "Error"},
        {501, "This server has no WebRTC; the message says what to install", "application/json", "Error"},
        kTaken}},
      {RouteId::kEndWhep,
       "DELETE",
       "/v1/live/whep/{id}",
       "End a session over WebRTC",
       {{"id", "path", "Of the session, as Location says"}},
       RouteBody::kNone,
       {{200, "It ends", kText}, kUnknown}},
      {RouteId::kSpeech,
       "POST",
       "/v1/audio/speech",
       "Text to speech, as it is spoken: 24 kHz, mono, 16 bit",
       {},
       RouteBody::kSpeech,
       {{200, "Sound, as WAV or without a head", "audio/wav"},
        {200, "Sound, as WAV or without a head", "audio/pcm"},
        kBadInput,
        {501, "This server has no speech; the message says what to install", "application/json", "Error"},
        {502, "The server that speaks for this one failed", "application/json", "Error"},
        {503, "Too many texts are being spoken: Retry-After says when to ask again", "application/json", "Error"}}},
  };
}

// The parameters where the path is of that form.
bool matches(std::string_view form, std::string_view path, std::map<std::string, std::string>& parameters) {
  while (!form.empty() && !path.empty()) {
    const std::string_view wanted = form.substr(0, form.find('/', 1)), got = path.substr(0, path.find('/', 1));
    if (wanted.starts_with("/{")) {
      if (got.size() < 2) return false;
      parameters[std::string(wanted.substr(2, wanted.size() - 3))] = got.substr(1);
    } else if (wanted != got) {
      return false;
    }
    form.remove_prefix(wanted.size());
    path.remove_prefix(got.size());
  }
  return form.empty() && path.empty();
}

}  // namespace

const std::vector<Route>& routes() {
  static const std::vector<Route> all = make_routes();
  return all;
}

RouteMatch match_route(const std::string& method, const std::string& path) {
  RouteMatch match;
  for (const Route& route : routes()) {
    std::map<std::string, std::string> parameters;
    if (!matches(route.path, path, parameters)) continue;
    match.allowed += (match.allowed.empty() ? "" : ", ") + std::string(route.method);
    if (route.method == (method == "HEAD" ? "GET" : method)) {
      match.route = &route;
      match.parameters = std::move(parameters);
    }
  }
  return match;
}

}  // namespace liveavatar::serve
