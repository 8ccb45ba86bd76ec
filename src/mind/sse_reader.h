// Server-sent events as they arrive.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace liveavatar {

// The data of each event; other fields and comments are skipped. Lines end with LF, CR or both. One thread at a time.
class SseReader {
 public:
  // Of the events that are complete now. kCorrupt: an event has more than 1 MiB.
  Expected<std::vector<std::string>> push(std::string_view bytes);

 private:
  void end_line(std::vector<std::string>& events);
  std::string line_, data_;
  bool has_data_ = false, after_cr_ = false;
};

}  // namespace liveavatar
