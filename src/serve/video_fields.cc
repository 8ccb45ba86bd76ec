#include "serve/video_fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/json.h"
#include "core/text.h"
#include "core/utf8.h"
#include "serve/base64.h"
#include "serve/multipart.h"
#include "serve/small_json.h"

namespace liveavatar::serve {
namespace {

// A number of the field's range.
template <typename Number>
Status set_number(Number& number, const VideoField& field, const std::string& text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  const bool is_number = error == std::errc() && at == end;
  if (is_number && value >= static_cast<Number>(field.least) && value <= static_cast<Number>(field.most)) {
    number = value;
    return {};
  }
  char range[80];
  std::snprintf(range, sizeof(range), "%.15g to %.15g", field.least, field.most);
  return invalid_argument(std::string(field.name) + " must be " +
                          (std::string(field.type) == "integer" ? "a whole number" : "a number") + " from " + range);
}

using Request = GenerateRequest;
using Text = const std::string&;

Status set_prompt(Request& r, const VideoField&, Text text) {
  if (first_not_utf8(text) != std::string::npos) return invalid_argument("prompt is not UTF-8");
  r.prompt = text;
  return {};
}
Status set_size(Request& r, const VideoField&, Text text) {
  r.size = text;
  return {};
}
Status set_fit(Request& r, const VideoField&, Text text) {
  LA_ASSIGN_OR_RETURN(r.fit, parse_fit(text));
  return {};
}
Status set_solver(Request& r, const VideoField&, Text text) {
  LA_ASSIGN_OR_RETURN(r.sample_solver, parse_sample_solver(text));
  return {};
}

Status unknown_field(const std::string& name) {
  std::vector<std::string> names{"image", "audio", "portrait", "model"};
  for (const VideoField& field : video_fields()) names.emplace_back(field.name);
  return invalid_argument("the field " + name + " is not known; there are " + join(names));
}

Status keep(VideoInputs& inputs, const std::string& name, std::string bytes) {
  if (name == "image") {
    inputs.image = std::move(bytes);
  } else if (name == "audio") {
    inputs.audio = std::move(bytes);
  } else {
    if (bytes.size() > (64 << 10)) return invalid_argument("the field " + name + " is larger than 64 KiB");
    inputs.texts[name] = std::move(bytes);
  }
  return {};
}

constexpr const char* kJson = "application/json";

// Without its parameters.
std::string media_type(const std::string& content_type) {
  return lower_case(content_type.substr(0, content_type.find(';')));
}

// 7 and 7.0 are the same whole number of JSON.
std::string number_text(const nlohmann::json& value) {
  constexpr double kMostExact = 9007199254740992.0;
  const double number = value.get<double>();
  const bool is_whole = value.is_number_float() && std::trunc(number) == number && std::abs(number) <= kMostExact;
  return is_whole ? std::to_string(static_cast<int64_t>(number)) : json_text(value);
}

// Of the type that /openapi.json says. A form has texts alone.
Expected<std::string> text_of(const std::string& name, const nlohmann::json& value) {
  const auto field = std::find_if(video_fields().begin(), video_fields().end(),
                                  [&](const VideoField& one) { return name == one.name; });
  const bool is_known = field != video_fields().end();
  if (!is_known && name != "portrait" && name != "model") return unknown_field(name);
  const bool is_text = !is_known || std::string(field->type) == "string";
  if (is_text && value.is_string()) return value.get<std::string>();
  if (is_text || !value.is_number())
    return invalid_argument(name + " is " + json_kind(value) + "; give a " + (is_text ? "text" : "number"));
  return number_text(value);
}

Expected<VideoInputs> parse_json_inputs(const std::string& body) {
  LA_ASSIGN_OR_RETURN(const nlohmann::json json, parse_small_json(body, "the body"));
  if (!json.is_object()) return invalid_argument("the body must be a JSON object");
  VideoInputs inputs;
  for (const auto& [name, value] : json.items()) {
    if (name == "image" || name == "audio") {
      std::optional<std::string> bytes;
      if (value.is_string()) bytes = base64_decoded(value.get_ref<const std::string&>());
      if (!bytes) return invalid_argument(name + " must be base64; a URL or a path is never opened");
      LA_RETURN_IF_ERROR(keep(inputs, name, *std::move(bytes)));
    } else {
      LA_ASSIGN_OR_RETURN(std::string text, text_of(name, value));
      LA_RETURN_IF_ERROR(keep(inputs, name, std::move(text)));
    }
  }
  return inputs;
}

}  // namespace

const std::vector<VideoField>& video_fields() {
  static const std::vector<VideoField> fields{
      {"prompt", "string", "A sentence that describes the person and the scene", 0, 0, set_prompt},
      {"size", "string", "An area, as \"704*384\"; the portrait's aspect decides the shape", 0, 0, set_size},
      {"fit", "string", "cover, or original: the Python original's rule", 0, 0, set_fit, {"cover", "original"}},
      {"seed", "integer", "Same seed, same video", 0, 9007199254740992.0,
       [](Request& r, const VideoField& f, Text text) { return set_number(r.seed, f, text); }},
      {"num_clip", "integer", "At most so many clips; 0: as long as the voice", 0, 1 << 24,
       [](Request& r, const VideoField& f, Text text) { return set_number(r.num_clip, f, text); }},
      {"infer_frames", "integer", "Frames a clip, rounded up to a multiple of 12", 1, 4800,
       [](Request& r, const VideoField& f, Text text) { return set_number(r.infer_frames, f, text); }},
      {"sample_steps", "integer", "Denoising steps a block", 1, 1000,
       [](Request& r, const VideoField& f, Text text) { return set_number(r.sample_steps, f, text); }},
      {"sample_shift", "number", "Flow-matching shift", 0.01, 100,
       [](Request& r, const VideoField& f, Text text) { return set_number(r.sample_shift, f, text); }},
      {"sample_solver", "string", "euler, unipc or dpm++", 0, 0, set_solver, {"euler", "unipc", "dpm++"}},
  };
  return fields;
}

bool is_video_body(const std::string& content_type) {
  const std::string type = media_type(content_type);
  return type == kJson || type == "multipart/form-data";
}

Expected<VideoInputs> parse_video_inputs(const std::string& content_type, const std::string& body) {
  if (media_type(content_type) == kJson) return parse_json_inputs(body);
  LA_ASSIGN_OR_RETURN(const std::vector<FormPart> parts, parse_form(content_type, body));
  VideoInputs inputs;
  for (const FormPart& part : parts) LA_RETURN_IF_ERROR(keep(inputs, part.name, std::string(part.bytes)));
  return inputs;
}

Expected<GenerateRequest> video_request(const VideoInputs& inputs) {
  GenerateRequest request;
  for (const auto& [name, value] : inputs.texts) {
    if (name == "portrait" || name == "model") continue;
    const VideoField* known = nullptr;
    for (const VideoField& field : video_fields())
      if (name == field.name) known = &field;
    if (known == nullptr) return unknown_field(name);
    LA_RETURN_IF_ERROR(known->set(request, *known, value));
  }
  return request;
}

}  // namespace liveavatar::serve
