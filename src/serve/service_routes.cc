// What each route answers.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/folder.h"
#include "core/json.h"
#include "serve/errors.h"
#include "serve/multipart.h"
#include "serve/page.h"
#include "serve/service.h"
#include "serve/video_fields.h"
#include "serve/video_streams.h"

namespace liveavatar::serve {
namespace {

using Json = nlohmann::ordered_json;

http::Response unknown_video() {
  return error_response(404, "not_found", "there is no such video, or it is forgotten");
}

std::string list_of(const std::vector<std::string>& items) {
  std::string all;
  for (const std::string& item : items) all += (all.empty() ? "" : ",") + item;
  return "{\"object\":\"list\",\"data\":[" + all + "]}";
}

std::string portrait_json(const Portrait& p) {
  return json_text(
      Json{{"name", p.name}, {"object", "portrait"}, {"bytes", p.bytes}, {"width", p.width}, {"height", p.height}});
}

// Of this process, as Prometheus' own clients name them.
void add_process(std::vector<Gauge>& gauges) {
  double resident_kb = 0, threads = 0;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) resident_kb = std::atof(line.c_str() + 6);
    if (line.starts_with("Threads:")) threads = std::atof(line.c_str() + 8);
  }
  const auto descriptors = double(folder_entries("/proc/self/fd").size());
  gauges.push_back({"process_resident_memory_bytes", "Resident memory", "", resident_kb * 1024});
  gauges.push_back({"process_open_fds", "Open descriptors", "", descriptors});
  gauges.push_back({"process_threads", "Threads", "", threads});
}

void add_memory(std::vector<Gauge>& gauges, const EngineHost& engine) {
  const std::vector<HostMemory> all = engine.memory();
  struct Kind {
    const char *name, *help;
    size_t HostMemory::*bytes;
  };
  constexpr Kind kKinds[] = {
      {"liveavatar_memory_used_bytes", "The engine's memory by category", &HostMemory::used_bytes},
      {"liveavatar_memory_peak_bytes", "The most of it since the start", &HostMemory::peak_bytes},
      {"liveavatar_memory_planned_bytes", "What the planner said of the job that was admitted last",
       &HostMemory::planned_bytes}};
  for (const Kind& kind : kKinds)
    for (const HostMemory& memory : all)
      gauges.push_back({kind.name, kind.help, "category=\"" + memory.category + "\"", double(memory.*kind.bytes)});
  gauges.push_back({"liveavatar_memory_budget_bytes", "Its limit; 0: none", "", double(engine.budget_bytes())});
}

}  // namespace

http::Response Service::page(const std::string& path) const {
  const PageFile* file = find_page_file(path);
  if (file == nullptr) return error_response(404, "not_found", "there is no such path");
  http::Response response{.content_type = content_type_of(file->path), .body = std::string(file->bytes)};
  response.headers.emplace_back("Content-Security-Policy",
                                "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; base-uri 'none'; "
                                "form-action 'self'; frame-ancestors 'none'");
  return response;
}

http::Response Service::health() const {
  const Phase phase = phase_;
  const char* status = "ok";
  if (phase == Phase::kLoading) status = "loading";
  if (phase == Phase::kDraining) status = "draining";
  const Json body{{"status", status},
                  {"sessions", turn_.sessions()},
                  {"max_sessions", turn_.max_sessions()},
                  {"queue", phase == Phase::kReady ? jobs_->queued() : 0},
                  {"job_runs", turn_.job_runs()},
                  {"sandbox", options_.locked}};
  return {.status = phase == Phase::kReady ? 200 : 503, .body = json_text(body)};
}

http::Response Service::metrics_text() const {
  const bool is_loaded = phase_ != Phase::kLoading && jobs_;
  const http::Server* server = server_;
  std::vector<Gauge> gauges{
      {"liveavatar_sessions", "Live sessions that are open", "", double(turn_.sessions())},
      {"liveavatar_sessions_max", "Most of them", "", double(turn_.max_sessions())},
      {"liveavatar_queue_length", "Jobs that wait", "", is_loaded ? double(jobs_->queued()) : 0},
      {"liveavatar_job_runs", "1 while a job runs", "", turn_.job_runs() ? 1.0 : 0.0},
      {"liveavatar_http_connections", "Open connections", "", server != nullptr ? double(server->connections()) : 0}};
  push_targets_->add_gauges(gauges);
  if (is_loaded) add_memory(gauges, *engine_);
  add_process(gauges);
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics_.text(gauges)};
}

http::Response Service::models() const {
  const Json model{{"id", engine_->model()},
                   {"object", "model"},
                   {"owned_by", "liveavatar"},
                   {"capabilities", {{"say", minds_.voice != nullptr}, {"converse", minds_.can_converse()}}}};
  return {.body = list_of({json_text(model)})};
}

Expected<VideoView> Service::add_video(const http::Request& request) {
  LA_ASSIGN_OR_RETURN(const VideoInputs inputs,
                      parse_video_inputs(std::string(request.header("content-type")), request.body));
  NewVideo video;
  LA_ASSIGN_OR_RETURN(video.request, video_request(inputs));
  Portrait portrait;
  if (const auto name = inputs.texts.find("portrait"); name != inputs.texts.end()) {
    LA_ASSIGN_OR_RETURN(portrait, portraits_.get(name->second));
  } else {
    LA_ASSIGN_OR_RETURN(portrait, portraits_.read(inputs.image));
  }
  if (inputs.audio.empty()) return invalid_argument("audio is missing: the voice, any sound that FFmpeg reads");
  LA_ASSIGN_OR_RETURN(std::shared_ptr<WorkFile> audio, folder_->write(inputs.audio));
  video.request.image = portrait.file->path();
  video.request.audio = audio->path();
  video.inputs = {portrait.file, audio};
  const auto info = engine_->admit(video.request);
  if (!info.ok()) {
    std::string message = without_path(info.status().message(), portrait.file->path(), "image");
    return Status(info.status().code(), without_path(std::move(message), audio->path(), "audio"));
  }
  video.info = *info;
  return jobs_->add(std::move(video));
}

http::Response Service::create_video(const http::Request& request) {
  if (!is_video_body(std::string(request.header("content-type"))))
    return error_response(415, "content_type", "the body must be multipart/form-data (curl -F) or application/json");
  const auto added = add_video(request);
  if (!added.ok()) {
    http::Response response = error_response(added.status());
    if (response.status == 503) response.headers.emplace_back("Retry-After", "10");
    return response;
  }
  http::Response response{.status = 202, .body = video_json(*added)};
  response.headers.emplace_back("Location", "/v1/videos/" + added->id);
  return response;
}

http::Response Service::list_videos() const {
  std::vector<std::string> items;
  for (const VideoView& view : jobs_->all()) items.push_back(video_json(view));
  return {.body = list_of(items)};
}

http::Response Service::video(const std::string& id) const {
  const auto view = jobs_->find(id);
  if (!view) return unknown_video();
  return {.body = video_json(*view)};
}

http::Response Service::delete_video(const std::string& id) {
  const auto view = jobs_->remove(id);
  if (!view) return unknown_video();
  return {.body = video_json(*view)};
}

http::Response Service::video_events(const std::string& id) const {
  if (!jobs_->find(id)) return unknown_video();
  return {.content_type = "text/event-stream", .stream = open_event_stream(*jobs_, id)};
}

http::Response Service::video_content(const std::string& id, const http::Request& request) const {
  const auto view = jobs_->find(id);
  if (!view) return unknown_video();
  const bool is_whole = view->state == VideoState::kCompleted;
  if (!view->video || (!is_whole && view->state != VideoState::kRunning))
    return error_response(409, video_state_name(view->state),
                          "the video is " + std::string(video_state_name(view->state)) + "; there is nothing to play");
  http::Response response{.content_type = "video/mp4"};
  if (!is_whole) {
    auto stream = open_growing_stream(*jobs_, *view);
    if (!stream.ok()) return error_response(stream.status());
    response.stream = *std::move(stream);
    return response;
  }
  const auto bytes = file_bytes(view->video->path());
  if (!bytes.ok()) return error_response(bytes.status());
  const ByteRange range = parse_range(request.header("range"), *bytes);
  response.headers.emplace_back("Accept-Ranges", "bytes");
  if (range.kind == ByteRange::Kind::kUnsatisfiable) {
    response = error_response(416, "range", "the video has " + std::to_string(*bytes) + " bytes");
    response.headers.emplace_back("Content-Range", "bytes */" + std::to_string(*bytes));
    return response;
  }
  const bool is_part = range.kind == ByteRange::Kind::kPart;
  const uint64_t first = is_part ? range.first : 0, count = is_part ? range.last - range.first + 1 : *bytes;
  if (is_part) {
    response.status = 206;
    response.headers.emplace_back("Content-Range", "bytes " + std::to_string(first) + "-" + std::to_string(range.last) +
                                                       "/" + std::to_string(*bytes));
  }
  auto stream = open_file_stream(view->video, first, count);
  if (!stream.ok()) return error_response(stream.status());
  response.stream = *std::move(stream);
  response.stream_bytes = count;
  return response;
}

http::Response Service::list_portraits() const {
  std::vector<std::string> items;
  for (const Portrait& portrait : portraits_.all()) items.push_back(portrait_json(portrait));
  return {.body = list_of(items)};
}

// The body is the image, or a form with it.
http::Response Service::put_portrait(const std::string& name, const http::Request& request) {
  std::string_view bytes = request.body;
  const std::string type(request.header("content-type"));
  if (type.starts_with("multipart/")) {
    const auto parts = parse_form(type, request.body);
    if (!parts.ok()) return error_response(parts.status());
    bytes = parts->empty() ? std::string_view() : parts->front().bytes;
  }
  const auto portrait = portraits_.put(name, bytes);
  if (!portrait.ok()) return error_response(portrait.status());
  return {.body = portrait_json(*portrait)};
}

http::Response Service::get_portrait(const std::string& name) const {
  const auto portrait = portraits_.get(name);
  if (!portrait.ok()) return error_response(portrait.status());
  auto stream = open_file_stream(portrait->file, 0, portrait->bytes);
  if (!stream.ok()) return error_response(stream.status());
  return {.content_type = "application/octet-stream", .stream = *std::move(stream), .stream_bytes = portrait->bytes};
}

http::Response Service::delete_portrait(const std::string& name) {
  if (!portraits_.remove(name)) return error_response(404, "not_found", "there is no portrait of that name");
  return {.status = 204, .content_type = "text/plain"};
}

http::Response Service::end_whep(const std::string& id) {
  if (!whep_.end(id)) return error_response(404, "not_found", "there is no such session, or it has ended");
  return {.content_type = "text/plain"};
}

}  // namespace liveavatar::serve
