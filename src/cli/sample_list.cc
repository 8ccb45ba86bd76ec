#include "cli/sample_list.h"

#include <yaml-cpp/yaml.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/status.h"
#include "core/text.h"
#include "pipeline/resolve.h"

namespace liveavatar::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Status wrong(const std::string& path, const std::string& what) {
  return invalid_argument("--sample_list " + path + ": " + what);
}

// Scalars as text, except those that YAML itself reads as whole numbers. What lies deeper than a sample's fields is not
// looked at: aliases could make it endless.
// twice: a key that a map of samples or fields has two times.
Json from_yaml(const YAML::Node& node, std::string& twice, int depth = 2) {
  if (depth == 0 && !node.IsScalar()) return nullptr;
  if (node.IsMap()) {
    Json object = Json::object();
    for (const auto& entry : node) {
      const auto key = entry.first.as<std::string>();
      if (object.contains(key)) twice = key;
      object[key] = from_yaml(entry.second, twice, depth - 1);
    }
    return object;
  }
  if (node.IsSequence()) {
    Json array = Json::array();
    for (const YAML::Node& entry : node) array.push_back(from_yaml(entry, twice, depth - 1));
    return array;
  }
  if (!node.IsScalar()) return nullptr;
  int64_t whole = 0;
  bool quoted = node.Tag() == "!";
  if (!quoted && YAML::convert<int64_t>::decode(node, whole)) return whole;
  return node.Scalar();
}

Json from_json(const std::string& text, std::string& twice) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  return Json::parse(text, [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second)
      twice = value.get<std::string>();
    return true;
  });
}

Expected<std::string> text_of_file(const std::string& path) {
  constexpr uint64_t kMostBytes = uint64_t{64} << 20;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return not_found("--sample_list " + path + ": no such file; give a JSON or YAML file");
  if (!fs::is_regular_file(status)) return wrong(path, "is no regular file; give a JSON or YAML file");
  if (fs::file_size(path, error) > kMostBytes) return wrong(path, "has more than 64 MiB; split it into several lists");
  std::ifstream in(path, std::ios::binary);
  if (!in) return io_error("--sample_list " + path + ": cannot be read; check its permissions");
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

Expected<Json> parse(const std::string& path) {
  std::string ending = lower_case(fs::path(path).extension().string());
  const bool is_json = ending == ".json";
  if (!is_json && ending != ".yaml" && ending != ".yml")
    return wrong(path, "the name must end in .json, .yaml or .yml");
  LA_ASSIGN_OR_RETURN(std::string text, text_of_file(path));
  Json json;
  std::string twice;
  try {
    if (is_json) {
      json = from_json(text, twice);
    } else {
      const std::vector<YAML::Node> documents = YAML::LoadAll(text);
      if (documents.size() > 1) return wrong(path, "has several YAML documents (---); put all samples into one");
      if (!documents.empty()) json = from_yaml(documents.front(), twice);
    }
  } catch (const Json::parse_error& e) {
    return wrong(path, "is not JSON at byte " + std::to_string(e.byte) + "; correct it there");
  } catch (const Json::exception&) {
    return wrong(path, "holds a number that is out of range, or nests too deep; correct it");
  } catch (const YAML::Exception& e) {
    return wrong(path, "is not YAML at line " + std::to_string(e.mark.line + 1) + ", column " +
                           std::to_string(e.mark.column + 1) + "; correct it there");
  }
  if (!twice.empty()) return wrong(path, "\"" + twice + "\" is there twice; give each sample and field its own name");
  return json;
}

Expected<std::string> text_of(const Json& fields, const char* key, const std::string& path, const std::string& name) {
  if (!fields.contains(key)) return wrong(path, "sample \"" + name + "\" lacks " + key + "; add it");
  if (!fields[key].is_string()) return wrong(path, "sample \"" + name + "\": " + key + " must be text");
  constexpr size_t kMostBytes = size_t{1} << 20;
  auto text = fields[key].get<std::string>();
  if (text.find('\0') != std::string::npos)
    return wrong(path, "sample \"" + name + "\": " + key + " holds a NUL character; remove it");
  if (text.size() > kMostBytes)
    return wrong(path, "sample \"" + name + "\": " + key + " has more than 1 MiB; shorten it");
  return text;
}

Expected<Sample> sample_of(const Json& fields, const std::string& name, const std::string& path) {
  if (!fields.is_object())
    return wrong(path, "sample \"" + name + "\" must have the fields prompt, image, audio and num_clip");
  Sample sample;
  sample.name = name;
  LA_ASSIGN_OR_RETURN(sample.prompt, text_of(fields, "prompt", path, name));
  LA_ASSIGN_OR_RETURN(sample.image, text_of(fields, "image", path, name));
  LA_ASSIGN_OR_RETURN(sample.audio, text_of(fields, "audio", path, name));
  if (!fields.contains("num_clip") || fields["num_clip"].is_null()) return sample;
  const Json& clips = fields["num_clip"];
  if (!clips.is_number_integer() || clips.get<int64_t>() < 1 || clips.get<int64_t>() > kMostClips)
    return wrong(path,
                 "sample \"" + name + "\": num_clip must be a whole number from 1 to " + std::to_string(kMostClips));
  sample.num_clip = clips.get<int64_t>();
  return sample;
}

}  // namespace

Expected<SampleList> read_sample_list(const std::string& path) {
  LA_ASSIGN_OR_RETURN(Json json, parse(path));
  if (!json.is_object() || json.empty())
    return wrong(path, "must hold samples by name, each with prompt, image, audio and num_clip");
  SampleList list;
  std::set<std::string> unused;
  for (const auto& [name, fields] : json.items()) {
    LA_ASSIGN_OR_RETURN(Sample sample, sample_of(fields, name, path));
    list.samples.push_back(sample);
    for (const auto& [key, value] : fields.items()) {
      if (key != "prompt" && key != "image" && key != "audio" && key != "num_clip") unused.insert(key);
    }
  }
  for (const std::string& key : unused) list.notes.push_back("--sample_list: the field " + key + " is not used");
  return list;
}

std::string sample_file(const std::string& dir, size_t index, const std::string& name) {
  std::string safe;
  for (unsigned char c : name) safe += c == '/' || std::iscntrl(c) ? '_' : static_cast<char>(c);
  constexpr size_t kLongest = 100;  // bytes; a file system allows 255
  if (safe.size() > kLongest) {
    safe.resize(kLongest);
    while (!safe.empty() && (static_cast<unsigned char>(safe.back()) & 0xC0) == 0x80) safe.pop_back();
    if (!safe.empty() && static_cast<unsigned char>(safe.back()) >= 0xC0) safe.pop_back();
  }
  char number[32];
  std::snprintf(number, sizeof(number), "sample_%04zu_", index);
  return (fs::path(dir) / (number + safe + ".mp4")).string();
}

}  // namespace liveavatar::cli
