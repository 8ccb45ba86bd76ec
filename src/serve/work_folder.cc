#include "serve/work_folder.h"

#include <sys/random.h>

#include <cerrno>
#include <filesystem>
#include <random>
#include <utility>

#include "core/errno_text.h"
#include "core/text.h"

namespace liveavatar::serve {

namespace fs = std::filesystem;

WorkFile::~WorkFile() {
  std::error_code ignored;
  fs::remove(path_, ignored);
}

std::string random_id() {
  unsigned char bytes[16];
  if (::getrandom(bytes, sizeof(bytes), 0) != static_cast<ssize_t>(sizeof(bytes))) {
    std::random_device device;
    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(device());
  }
  return hex(bytes);
}

Expected<std::unique_ptr<WorkFolder>> WorkFolder::create(const std::string& parent) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<TemporaryFolder> folder,
                      TemporaryFolder::create(parent, "liveavatar-serve", "choose another `work_dir`"));
  return std::unique_ptr<WorkFolder>(new WorkFolder(std::move(folder)));
}

std::shared_ptr<WorkFile> WorkFolder::name(const std::string& ending) const {
  return std::make_shared<WorkFile>((fs::path(folder_->path()) / (random_id() + ending)).string());
}

Expected<std::shared_ptr<WorkFile>> WorkFolder::write(std::string_view bytes) const {
  std::shared_ptr<WorkFile> file = name("");
  std::FILE* out = std::fopen(file->path().c_str(), "wbex");
  bool written = out != nullptr && std::fwrite(bytes.data(), 1, bytes.size(), out) == bytes.size();
  const int error = errno;
  if (out != nullptr) written = std::fclose(out) == 0 && written;
  if (!written)
    return io_error("an upload cannot be kept " + errno_text(error, "free space, or choose another `work_dir`"));
  return file;
}

}  // namespace liveavatar::serve
