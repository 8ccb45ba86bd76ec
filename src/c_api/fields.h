// Options and jobs by name and text: what bindings set. Names are those of the structs' fields.
#pragma once

#include <string>

#include "core/status.h"
#include "liveavatar/live.h"
#include "liveavatar/liveavatar.h"

namespace liveavatar {

Status set_field(EngineOptions& options, const std::string& name, const std::string& value);
Status set_field(GenerateRequest& request, const std::string& name, const std::string& value);
Status set_field(LiveRequest& request, const std::string& name, const std::string& value);

}  // namespace liveavatar
