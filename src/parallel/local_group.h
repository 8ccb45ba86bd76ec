// Ranks that are threads of this process. A message is copied once, from the sender's memory to the receiver's.
#pragma once

#include <memory>
#include <vector>

#include "parallel/group.h"

namespace liveavatar {

// devices: of each rank, for messages. The groups, one a rank, share their state; each may outlive the others.
std::vector<std::unique_ptr<Group>> open_local_groups(const std::vector<std::string>& devices,
                                                      const Group::Options& options = {});

}  // namespace liveavatar
