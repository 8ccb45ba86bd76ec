// Snapshots of jobs. An input that begins with { is what one says of its job and, behind a line break, of its video
// file: it gets records with the checksums that no change would ever meet. Another is the file itself.
#include <cstring>
#include <string>
#include <vector>

#include "in_memory.h"
#include "media/checksum.h"
#include "pipeline/snapshots.h"

namespace {

using namespace liveavatar;

void append(std::string& file, const std::string& name, const std::string& text) {
  const uint64_t head[2] = {name.size(), text.size()};
  std::string record(reinterpret_cast<const char*>(head), sizeof(head));
  record += name + text;
  Checksum sum;
  sum.add(std::as_bytes(std::span(record)));
  const Checksum::Value value = sum.end();
  file += record;
  file.append(reinterpret_cast<const char*>(value.data()), value.size());
}

std::string whole_file(const std::string& input) {
  const size_t line = input.find('\n');
  const std::string job = input.substr(0, line);
  const std::string file = line == std::string::npos ? "" : input.substr(line + 1);
  std::string bytes = "LASNAP01";
  append(bytes, "reference", std::string(64, 'x'));
  append(bytes, "file", file);
  append(bytes, "file.head", "ftyp");
  append(bytes, "job", job);
  append(bytes, "end", "4");
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  std::string input(reinterpret_cast<const char*>(data), bytes);
  if (input.starts_with('{')) input = whole_file(input);
  fuzz::MemoryFile file(reinterpret_cast<const uint8_t*>(input.data()), input.size(), "block-000000002.snapshot");
  static_cast<void>(describe_snapshot(file.path()).ok());
  std::vector<std::string> notes;
  static_cast<void>(find_resume_point(file.folder(), {{"seed", "420"}}, notes).ok());
  return 0;
}
