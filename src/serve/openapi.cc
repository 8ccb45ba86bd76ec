#include "serve/openapi.h"

#include "core/json.h"
#include "liveavatar/version.h"
#include "serve/routes.h"
#include "serve/video_fields.h"

namespace liveavatar::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSchemas = R"({
  "Error": {"type": "object", "required": ["error"], "properties": {
    "error": {"type": "object", "required": ["code", "message"], "properties": {
      "code": {"type": "string"}, "message": {"type": "string", "description": "What, where and what to do, in one line"}}}}},
  "Health": {"type": "object", "required": ["status"], "properties": {
    "status": {"enum": ["ok", "loading", "draining", "failed"]}, "sessions": {"type": "integer"},
    "max_sessions": {"type": "integer"}, "queue": {"type": "integer"},
    "sandbox": {"type": "string", "enum": ["on", "files", "calls", "off"]}}},
  "Models": {"type": "object", "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": {
    "type": "object", "properties": {"id": {"type": "string"}, "object": {"const": "model"}, "owned_by": {"type": "string"},
    "capabilities": {"type": "object", "description": "What live sessions can do here", "properties": {
      "say": {"type": "boolean"}, "converse": {"type": "boolean"}}}}}}}},
  "Speech": {"type": "object", "required": ["input"], "properties": {
    "input": {"type": "string", "description": "The text, 8 KiB at most"},
    "voice": {"type": "string", "description": "A name of this server's kind of voice; default: its own"},
    "response_format": {"enum": ["wav", "pcm"], "default": "wav"},
    "model": {"type": "string", "description": "Is not looked at"}}},
  "Video": {"type": "object", "required": ["id", "object", "status", "created_at", "progress"], "properties": {
    "id": {"type": "string"}, "object": {"const": "video"},
    "status": {"enum": ["queued", "running", "completed", "failed", "cancelled"]},
    "created_at": {"type": "integer", "description": "Seconds since 1970"},
    "progress": {"type": "integer", "minimum": 0, "maximum": 100},
    "queue_position": {"type": "integer", "description": "Jobs before it; while it waits"},
    "waits_for": {"enum": ["sessions", "jobs"], "description": "What must end before it begins: live sessions, or jobs before it"},
    "stage": {"type": "string"}, "frames_done": {"type": "integer"}, "frames": {"type": "integer"},
    "width": {"type": "integer"}, "height": {"type": "integer"}, "fps": {"type": "integer"},
    "notes": {"type": "array", "items": {"type": "string"}},
    "timings": {"type": "object", "properties": {
      "queued_s": {"type": "number"}, "first_frame_ms": {"type": "number"}, "wall_s": {"type": "number"},
      "frames_per_second": {"type": "number"}, "peak_memory_bytes": {"type": "integer"}}},
    "error": {"type": "object", "properties": {"code": {"type": "string"}, "message": {"type": "string"}}}}},
  "Videos": {"type": "object", "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": {"$ref": "#/components/schemas/Video"}}}},
  "Portrait": {"type": "object", "properties": {"name": {"type": "string"}, "object": {"const": "portrait"},
    "bytes": {"type": "integer"}, "width": {"type": "integer"}, "height": {"type": "integer"}}},
  "Portraits": {"type": "object", "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": {"$ref": "#/components/schemas/Portrait"}}}}
})";

// as_json: images and voices are base64 there.
Json video_schema(bool as_json) {
  Json properties;
  for (const char* name : {"image", "audio"}) {
    properties[name] = {{"type", "string"}};
    if (as_json) properties[name]["contentEncoding"] = "base64";
    if (!as_json) properties[name]["contentMediaType"] = "application/octet-stream";
  }
  properties["image"]["description"] = "The portrait; or give portrait";
  properties["audio"]["description"] = "The voice, in any format that FFmpeg reads";
  properties["portrait"] = {{"type", "string"}, {"description", "The name of one that is kept; or give image"}};
  properties["model"] = {{"type", "string"}, {"description", "Is not looked at: there is one model"}};
  for (const VideoField& field : video_fields()) {
    properties[field.name] = {{"type", field.type}, {"description", field.description}};
    if (!field.choices.empty()) properties[field.name]["enum"] = field.choices;
    if (field.least >= field.most) continue;
    properties[field.name]["minimum"] = field.least;
    properties[field.name]["maximum"] = field.most;
  }
  return {{"type", "object"},
          {"required", Json::array({"audio"})},
          {"anyOf", Json::array({{{"required", Json::array({"image"})}}, {{"required", Json::array({"portrait"})}}})},
          {"properties", properties},
          {"additionalProperties", false}};
}

Json body_of(RouteBody body) {
  if (body == RouteBody::kImage) return {{"required", true}, {"content", {{"image/*", Json::object()}}}};
  if (body == RouteBody::kSdp) return {{"required", true}, {"content", {{"application/sdp", Json::object()}}}};
  if (body == RouteBody::kSpeech)
    return {{"required", true},
            {"content", {{"application/json", {{"schema", {{"$ref", "#/components/schemas/Speech"}}}}}}}};
  return {{"required", true},
          {"content",
           {{"multipart/form-data", {{"schema", video_schema(false)}}},
            {"application/json", {{"schema", video_schema(true)}}}}}};
}

Json answer_of(const RouteAnswer& answer) {
  Json json{{"description", answer.description}};
  if (*answer.content_type == '\0') return json;
  Json content = Json::object();
  if (answer.schema != nullptr) content["schema"] = {{"$ref", std::string("#/components/schemas/") + answer.schema}};
  json["content"] = {{answer.content_type, content}};
  return json;
}

// What any route of that kind may answer before it is asked.
std::vector<RouteAnswer> common_answers(const Route& route) {
  constexpr const char *kJson = "application/json", *kError = "Error";
  std::vector<RouteAnswer> answers{
      {400, "The request's head is wrong, or it has a body that this path does not take", kJson, kError},
      {421, "Without a key: Host is a name that was not allowed at the server's start", kJson, kError},
      {431, "The request's head is larger than 16 KiB", kJson, kError},
      {503, "Not now: loading, draining, or too many connections", kJson, kError}};
  if (!route.is_open) answers.push_back({401, "The key is missing or wrong", kJson, kError});
  if (std::string(route.method) != "GET") answers.push_back({403, "The page's origin is not allowed", kJson, kError});
  if (route.body != RouteBody::kNone) answers.push_back({413, "The body is too large", kJson, kError});
  return answers;
}

Json operation_of(const Route& route) {
  Json operation{{"summary", route.summary}};
  if (route.is_open) operation["security"] = Json::array();
  for (const RouteParameter& parameter : route.parameters)
    operation["parameters"].push_back({{"name", parameter.name},
                                       {"in", parameter.in},
                                       {"required", parameter.is_required || std::string(parameter.in) == "path"},
                                       {"description", parameter.description},
                                       {"schema", {{"type", "string"}}}});
  if (route.body != RouteBody::kNone) operation["requestBody"] = body_of(route.body);
  Json& responses = operation["responses"];
  for (const RouteAnswer& answer : route.answers) {  // one of several types has a row for each
    Json& known = responses[std::to_string(answer.status)];
    Json described = answer_of(answer);
    if (known.contains("content")) described["content"].update(known["content"]);
    known = described;
  }
  for (const RouteAnswer& answer : common_answers(route))
    if (!responses.contains(std::to_string(answer.status)))
      responses[std::to_string(answer.status)] = answer_of(answer);
  return operation;
}

}  // namespace

std::string openapi_json(bool has_speech) {
  Json json{{"openapi", "3.1.0"},
            {"info",
             {{"title", "liveavatar"},
              {"version", LIVEAVATAR_VERSION_STRING},
              {"description", "One portrait and a voice become a talking video. The live socket: docs/asyncapi.yaml"}}},
            {"security", {{{"key", Json::array()}}}}};
  for (const Route& route : routes()) {
    if (route.id == RouteId::kSpeech && !has_speech) continue;
    std::string method = route.method;
    for (char& c : method) c = static_cast<char>(c - 'A' + 'a');
    json["paths"][route.path][method] = operation_of(route);
  }
  json["components"] = {{"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}},
                        {"schemas", Json::parse(kSchemas)}};
  return json_text(json, 2);
}

}  // namespace liveavatar::serve
