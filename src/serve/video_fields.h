// The fields of POST /v1/videos, in one table: what is parsed, and what /openapi.json says.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/status.h"
#include "liveavatar/liveavatar.h"

namespace liveavatar::serve {

struct VideoField {
  const char *name, *type, *description;  // type: of JSON
  double least = 0, most = 0;             // of numbers
  Status (*set)(GenerateRequest& request, const VideoField& field, const std::string& value);
  std::vector<const char*> choices = {};  // of texts; empty: any
};
const std::vector<VideoField>& video_fields();

// What a client sent, of either kind of body.
struct VideoInputs {
  std::map<std::string, std::string> texts;
  std::string image, audio;  // bytes; empty: none
};
// multipart/form-data or application/json.
bool is_video_body(const std::string& content_type);
// Of such a body.
Expected<VideoInputs> parse_video_inputs(const std::string& content_type, const std::string& body);
// image, audio and portrait are for the caller. kInvalidArgument names the field.
Expected<GenerateRequest> video_request(const VideoInputs& inputs);

}  // namespace liveavatar::serve
