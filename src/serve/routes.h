// All routes, in one table: what is dispatched, and what /openapi.json says.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace liveavatar::serve {

enum class RouteId {
  kPage,
  kHealth,
  kMetrics,
  kOpenApi,
  kModels,
  kCreateVideo,
  kListVideos,
  kGetVideo,
  kDeleteVideo,
  kVideoEvents,
  kVideoContent,
  kListPortraits,
  kPutPortrait,
  kGetPortrait,
  kDeletePortrait,
  kLive,
  kOpenWhep,
  kEndWhep,
  kSpeech,
};

struct RouteParameter {
  const char *name, *in, *description;  // in: "path", "query", "header"
  bool is_required = false;             // those of a path are
};

struct RouteAnswer {
  int status = 200;
  const char* description;
  const char* content_type = "application/json";
  const char* schema = nullptr;  // of openapi's components; null: bytes or text
};

enum class RouteBody { kNone, kVideo, kImage, kSdp, kSpeech };

struct Route {
  RouteId id;
  const char *method, *path, *summary;  // "{id}" in a path is one segment
  std::vector<RouteParameter> parameters;
  RouteBody body = RouteBody::kNone;
  std::vector<RouteAnswer> answers;
  bool is_open = false;  // no key is asked for
};

const std::vector<Route>& routes();

struct RouteMatch {
  const Route* route = nullptr;  // null: none
  std::map<std::string, std::string> parameters;
  std::string allowed;  // methods of that path, "GET, DELETE"; empty: there is no such path
};
// HEAD is GET.
RouteMatch match_route(const std::string& method, const std::string& path);

}  // namespace liveavatar::serve
