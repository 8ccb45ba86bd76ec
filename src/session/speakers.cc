#include "session/speakers.h"

#include <algorithm>
#include <filesystem>

#include "core/folder.h"
#include "core/text.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

Expected<MaskImages> images_of(const std::string& mask) {
  if (!is_folder(mask)) return MaskImages{mask};
  MaskImages pictures;
  auto entries = list_folder(mask);
  if (!entries.ok()) return Status(entries.status().code(), "`masks` " + entries.status().message());
  for (const fs::path& entry : *entries) {
    if (lower_case(entry.extension().string()) == ".png") pictures.push_back(entry.string());
  }
  if (pictures.empty()) return not_found("`masks` " + mask + ": there is no .png in this folder");
  return pictures;
}

// The subfolders 1, 2, ... of a folder that the original's mask step leaves.
std::vector<std::string> numbered_folders(fs::path folder) {
  if (is_folder(folder / "tracking_mask_results")) folder /= "tracking_mask_results";
  std::vector<std::string> folders;
  while (is_folder(folder / std::to_string(folders.size() + 1)))
    folders.push_back((folder / std::to_string(folders.size() + 1)).string());
  return folders;
}

}  // namespace

std::vector<std::string> split_voices(const std::string& audio) {
  std::vector<std::string> voices;
  for (size_t begin = 0; begin <= audio.size();) {
    size_t end = audio.size();
    std::error_code ignored;
    while (end != std::string::npos && end > begin && !fs::exists(audio.substr(begin, end - begin), ignored))
      end = audio.rfind('+', end - 1);
    bool found = end != std::string::npos && end > begin;
    if (!found) end = std::min(audio.find('+', begin), audio.size());
    voices.push_back(audio.substr(begin, end - begin));
    begin = end + 1;
  }
  return voices;
}

Expected<std::vector<std::string>> job_voices(const GenerateRequest& job) {
  std::vector<std::string> names = split_voices(job.audio);
  if (names.size() > 1 && std::find(names.begin(), names.end(), "") != names.end()) {
    return invalid_argument("`audio` " + job.audio +
                            ": a voice beside a '+' has no name; give one voice, or left.wav+right.wav");
  }
  return names;
}

Expected<std::vector<MaskImages>> find_masks(const std::vector<std::string>& masks, size_t voices) {
  std::vector<std::string> folders = masks;
  if (masks.size() == 1) {
    std::vector<std::string> numbered = numbered_folders(masks.front());
    if (!numbered.empty()) folders = numbered;
  }
  if (folders.empty() && voices > 1) {
    return invalid_argument("`audio` names " + std::to_string(voices) +
                            " voices: `masks` is missing, which says where "
                            "each speaker is; give a PNG each (not black where the speaker is), in the voices' order");
  }
  if (!folders.empty() && folders.size() != voices) {
    return invalid_argument("`masks` gives " + std::to_string(folders.size()) + " and `audio` " +
                            std::to_string(voices) + "; there must be one mask for each voice, in the same order");
  }
  std::vector<MaskImages> all;
  for (const std::string& mask : folders) {
    LA_ASSIGN_OR_RETURN(MaskImages pictures, images_of(mask));
    all.push_back(std::move(pictures));
  }
  return all;
}

Expected<std::vector<MaskImages>> job_masks(const GenerateRequest& job) {
  LA_ASSIGN_OR_RETURN(std::vector<std::string> names, job_voices(job));
  if (names.size() == 1 && !job.masks.empty()) {
    return invalid_argument(
        "`masks`: it tells several speakers apart, and `audio` names one voice; leave `masks` out, or give "
        "`audio` left.wav+right.wav and a mask for each");
  }
  return find_masks(job.masks, names.size());
}

}  // namespace liveavatar
