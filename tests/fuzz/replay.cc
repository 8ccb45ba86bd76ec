// Runs a fuzz target without libFuzzer: every seed as it is, then seeds with bytes changed, for so many seconds.
//   <target>_replay SECONDS SEED_FILE_OR_FOLDER...
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes);

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

constexpr uintmax_t kLargestSeedBytes = 1 << 20;

void add_seed(const fs::path& path, std::vector<Bytes>& seeds) {
  if (!fs::is_regular_file(path) || fs::file_size(path) > kLargestSeedBytes) return;
  std::ifstream file(path, std::ios::binary);
  seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// A few bytes set, a range removed or repeated, or the end cut off; mostly near the front, where headers are.
void mutate(Bytes& bytes, std::mt19937& random) {
  auto below = [&random](size_t n) { return n == 0 ? 0 : random() % n; };
  size_t reach = random() % 4 == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 4096);
  size_t at = below(reach), length = std::min(bytes.size() - at, 1 + below(16));
  switch (random() % 4) {
    case 0:
      for (size_t i = 0; i < length; ++i) bytes[at + i] = static_cast<uint8_t>(random());
      break;
    case 1:
      bytes.erase(bytes.begin() + long(at), bytes.begin() + long(at + length));
      break;
    case 2: {
      Bytes again(bytes.begin() + long(at), bytes.begin() + long(at + length));
      bytes.insert(bytes.begin() + long(below(reach)), again.begin(), again.end());
      break;
    }
    default:
      if (random() % 8 == 0) bytes.resize(below(bytes.size()));
      if (at < bytes.size()) bytes[at] ^= static_cast<uint8_t>(1u << random() % 8);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fputs("usage: replay SECONDS SEED_FILE_OR_FOLDER...\n", stderr);
    return 2;
  }
  std::vector<Bytes> seeds;
  for (int i = 2; i < argc; ++i) {
    if (fs::is_directory(argv[i])) {
      for (const auto& entry : fs::recursive_directory_iterator(argv[i])) add_seed(entry.path(), seeds);
    } else {
      add_seed(argv[i], seeds);
    }
  }
  if (seeds.empty()) {
    std::fputs("replay: no seeds\n", stderr);
    return 2;
  }
  for (const Bytes& seed : seeds) LLVMFuzzerTestOneInput(seed.data(), seed.size());
  std::mt19937 random(1);
  long runs = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(argv[1]));
  for (; std::chrono::steady_clock::now() < end; ++runs) {
    Bytes bytes = seeds[random() % seeds.size()];
    for (size_t n = 1 + random() % 4; n > 0 && !bytes.empty(); --n) mutate(bytes, random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%zu seeds, %ld changed inputs\n", seeds.size(), runs);
  return 0;
}
