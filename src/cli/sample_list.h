// --sample_list: the jobs of a JSON or YAML file, as the original's batch script takes them.
#pragma once

#include <string>
#include <vector>

#include "liveavatar/liveavatar.h"

namespace liveavatar::cli {

// name: {prompt, image, audio, num_clip}
struct Sample {
  std::string name, prompt, image, audio;
  int64_t num_clip = 0;  // 0: as long as the voice
};

struct SampleList {
  std::vector<Sample> samples;     // in the file's order
  std::vector<std::string> notes;  // fields that are not used, a line each
};

// path ends in .json, .yaml or .yml. Errors name the file, the sample and the field; no file of a sample is opened.
Expected<SampleList> read_sample_list(const std::string& path);

// "sample_0001_<name>.mp4" in dir; the name without what no file name should hold.
std::string sample_file(const std::string& dir, size_t index, const std::string& name);

}  // namespace liveavatar::cli
