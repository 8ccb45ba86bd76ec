// Packed models. An input that begins with { is a header: it gets its magic, its length and its checksum, which no
// change would ever meet, and as many pages of zeros as it says.
#include <algorithm>
#include <cstring>
#include <vector>

#include "in_memory.h"
#include "models/s2v_dit/packed.h"
#include "ops/make_backend.h"

namespace {

using Bytes = std::vector<uint8_t>;

Bytes with_prefix(const uint8_t* header, size_t bytes) {
  Bytes padded(header, header + bytes);
  padded.resize((bytes + 31) / 32 * 32, ' ');
  const uint64_t numbers[2] = {
      bytes, liveavatar::page_checksum(reinterpret_cast<const std::byte*>(padded.data()), padded.size())};
  Bytes file(24 + bytes);
  std::memcpy(file.data(), "LVAVPACK", 8);
  std::memcpy(file.data() + 8, numbers, sizeof(numbers));
  std::copy_n(header, bytes, file.data() + 24);
  return file;
}

// A header that tells its file's size is in the error of a file of another size.
size_t wanted_bytes(const std::string& message) {
  const std::string mark = "its header says ";
  size_t at = message.find(mark);
  return at == std::string::npos ? 0 : std::strtoull(message.c_str() + at + mark.size(), nullptr, 10);
}

void open(const Bytes& bytes) {
  using namespace liveavatar;
  static Budget unlimited;
  static const std::unique_ptr<Backend> backend = *make_backend("reference", {.threads = 1, .budget = &unlimited});
  fuzz::MemoryFile file(bytes.data(), bytes.size(), "model.packed");
  Budget budget(size_t{64} << 20);
  static_cast<void>(is_packed_file(file.path()));
  static_cast<void>(verify_packed_file(file.path(), budget).ok());
  auto packed = PackedDit::open(file.path(), *backend, DitTypes{DType::kBF16});
  if (packed.ok()) static_cast<void>(PagedWeightGroups::open(*packed->pages(false), {1}, *backend, budget).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace liveavatar;
  constexpr size_t kMostBytes = 4 << 20;
  Bytes file(data, data + bytes);
  if (bytes > 0 && data[0] == '{') {
    file = with_prefix(data, bytes);
    std::string message;
    {
      fuzz::MemoryFile header(file.data(), file.size(), "model.packed");
      message = read_packed_header(header.path()).status().message();
    }
    const size_t wanted = wanted_bytes(message);
    if (wanted > file.size() && wanted < kMostBytes) file.resize(wanted);
  }
  open(file);
  return 0;
}
