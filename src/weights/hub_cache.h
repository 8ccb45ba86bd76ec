// Names of the Hugging Face hub ("Wan-AI/Wan2.2-S2V-14B") as folders of its local cache. Nothing is ever downloaded.
#pragma once

#include <string>

#include "core/status.h"

namespace liveavatar {

// Where the hub's own tools keep what they download: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or
// ~/.cache/huggingface/hub, the first that is set. Empty: none is.
std::string hub_cache_folder();

// `path` where it exists. Else, where it reads as org/name or org/name/file: what the cache holds of it, in the
// snapshot that refs/main names, without it the newest. Any other path comes back as it is. flag ("--ckpt_dir") is for
// the errors, which name what is missing and the command that downloads it.
Expected<std::string> find_local(const std::string& flag, const std::string& path);

// The command that completes the snapshot in which path lies; "" where it lies in none.
std::string download_command(const std::string& path);

}  // namespace liveavatar
