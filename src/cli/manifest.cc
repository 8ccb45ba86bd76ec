#include "cli/manifest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "core/text.h"

namespace liveavatar::cli {
namespace {

namespace fs = std::filesystem;
constexpr size_t kDigits = 64;

struct Entry {
  std::string sum, path;
};

bool stays_below(const fs::path& path) {
  return !path.empty() && path.is_relative() &&
         std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

Expected<std::vector<Entry>> read_entries(const std::string& manifest) {
  std::ifstream file(manifest);
  if (!file) return io_error(manifest + ": cannot be read; check the path");
  std::vector<Entry> entries;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    const std::string where = manifest + ", line " + std::to_string(++number) + ": ";
    if (line.ends_with('\r')) line.pop_back();  // made on Windows
    if (line.empty()) continue;
    const bool is_sum = line.size() > kDigits + 2 && line.find_first_not_of("0123456789abcdef") == kDigits &&
                        line[kDigits] == ' ' && (line[kDigits + 1] == ' ' || line[kDigits + 1] == '*');
    if (!is_sum) return invalid_argument(where + "not of sha256sum; make it by sha256sum * > SHA256SUMS");
    Entry entry{line.substr(0, kDigits), line.substr(kDigits + 2)};
    if (!stays_below(entry.path)) return invalid_argument(where + "leads out of the folder; give paths below it");
    entries.push_back(std::move(entry));
  }
  if (file.bad()) return io_error(manifest + ": cannot be read to its end; copy it to another place");
  if (entries.empty()) return invalid_argument(manifest + ": has no line; make it by sha256sum * > SHA256SUMS");
  return entries;
}

struct Free {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

// "": it cannot be read.
std::string sum_of(const fs::path& path) {
  constexpr size_t kBlock = 1 << 20;
  std::error_code ignored;
  std::ifstream file(path, std::ios::binary);
  if (!file || !fs::is_regular_file(path, ignored)) return {};
  const std::unique_ptr<EVP_MD_CTX, Free> context(EVP_MD_CTX_new());
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) return {};
  std::vector<char> block(kBlock);
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    if (EVP_DigestUpdate(context.get(), block.data(), static_cast<size_t>(file.gcount())) != 1) return {};
  }
  unsigned char sum[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (file.bad() || EVP_DigestFinal_ex(context.get(), sum, &size) != 1) return {};
  return hex({sum, size});
}

}  // namespace

Expected<ManifestReport> verify_manifest(const std::string& manifest, const std::function<void(std::string)>& say,
                                         const std::function<void(const std::string&, double)>& begin) {
  LA_ASSIGN_OR_RETURN(const std::vector<Entry> entries, read_entries(manifest));
  const fs::path folder = fs::path(manifest).parent_path();
  ManifestReport report;
  for (const Entry& entry : entries) {
    std::error_code error;
    const auto bytes = fs::file_size(folder / entry.path, error);
    if (!error) begin(entry.path, double(bytes));
    const std::string sum = sum_of(folder / entry.path);
    ++report.files;
    if (sum == entry.sum) continue;
    ++report.bad;
    say(entry.path + (sum.empty() ? ": is missing or cannot be read" : ": is not what the manifest says") +
        "; fetch it again");
  }
  return report;
}

}  // namespace liveavatar::cli
