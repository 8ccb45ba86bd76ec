#include "mind/sse_reader.h"

#include <utility>

namespace liveavatar {
namespace {

constexpr size_t kMostEventBytes = 1 << 20;

}  // namespace

void SseReader::end_line(std::vector<std::string>& events) {
  const std::string line = std::exchange(line_, {});
  if (line.empty()) {
    if (has_data_) events.push_back(std::exchange(data_, {}));
    has_data_ = false;
    return;
  }
  const size_t colon = line.find(':');
  if (std::string_view(line).substr(0, colon) != "data") return;
  std::string_view value = colon == std::string::npos ? std::string_view() : std::string_view(line).substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (has_data_) data_ += '\n';
  has_data_ = true;
  data_ += value;
}

Expected<std::vector<std::string>> SseReader::push(std::string_view bytes) {
  std::vector<std::string> events;
  for (const char c : bytes) {
    const bool is_second_half = std::exchange(after_cr_, c == '\r') && c == '\n';
    if (is_second_half) continue;
    if (c == '\n' || c == '\r') {
      end_line(events);
    } else {
      line_ += c;
    }
    if (line_.size() + data_.size() > kMostEventBytes) return corrupt("sent an event that is too long");
  }
  return events;
}

}  // namespace liveavatar
