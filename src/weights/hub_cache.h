// Names of the Hugging Face hub ("Wan-AI/Wan2.2-S2V-14B") as folders of its local cache. This code never downloads.
#pragma once

#include <string>

#include "core/status.h"

namespace liveavatar {

// The download folder of the hub's own tools: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or
// ~/.cache/huggingface/hub, the first that is set. Empty: none is.
std::string hub_cache_folder();

// `path` if it exists. Otherwise, if it has the form org/name or org/name/file: its path in the cache, in the snapshot
// of refs/main, or else in the newest one. Any other path is returned unchanged. flag ("--ckpt_dir") is for the errors,
// which name the missing files and the command that downloads them.
Expected<std::string> find_local(const std::string& flag, const std::string& path);

// The command that completes the snapshot of path; "" if path is in no snapshot.
std::string download_command(const std::string& path);

}  // namespace liveavatar
