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
#include "pipeline/job.h"

namespace liveavatar::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Status wrong(const std::string& path, const std::string& what) {
  return invalid_argument("--sample_list " + path + ": " + what);
}

// Scalars as text, except those that YAML itself reads as whole numbers. What lies deeper than a sample's fields is not
// looked at: aliases could make it endless.
Json from_yaml(const YAML::Node& node, int depth = 2) {
  if (depth == 0 && !node.IsScalar()) return nullptr;
  if (node.IsMap()) {
    Json object = Json::object();
    for (const auto& entry : node) object[entry.first.as<std::string>()] = from_yaml(entry.second, depth - 1);
    return object;
  }
  if (node.IsSequence()) {
    Json array = Json::array();
    for (const YAML::Node& entry : node) array.push_back(from_yaml(entry, depth - 1));
    return array;
  }
  if (!node.IsScalar()) return nullptr;
  int64_t whole = 0;
  bool quoted = node.Tag() == "!";
  if (!quoted && YAML::convert<int64_t>::decode(node, whole)) return whole;
  return node.Scalar();
}

Expected<Json> parse(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return not_found("--sample_list " + path + ": no such file, or it cannot be read; give a JSON or YAML file");
  std::stringstream text;
  text << in.rdbuf();
  std::string ending = lower_case(fs::path(path).extension().string());
  try {
    if (ending == ".json") return Json::parse(text.str());
    if (ending == ".yaml" || ending == ".yml") return from_yaml(YAML::Load(text.str()));
  } catch (const Json::parse_error& e) {
    return wrong(path, "is not JSON at byte " + std::to_string(e.byte) + "; correct it there");
  } catch (const Json::exception&) {
    return wrong(path, "holds a number that is out of range, or nests too deep; correct it");
  } catch (const YAML::Exception& e) {
    return wrong(path, "is not YAML at line " + std::to_string(e.mark.line + 1) + ", column " +
                           std::to_string(e.mark.column + 1) + "; correct it there");
  }
  return wrong(path, "the name must end in .json, .yaml or .yml");
}

Expected<std::string> text_of(const Json& fields, const char* key, const std::string& path, const std::string& name) {
  if (!fields.contains(key)) return wrong(path, "sample \"" + name + "\" lacks " + key + "; add it");
  if (!fields[key].is_string()) return wrong(path, "sample \"" + name + "\": " + key + " must be text");
  return fields[key].get<std::string>();
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
