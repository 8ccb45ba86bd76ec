#include "serve/lock_down.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "core/folder.h"
#include "core/plugin.h"

namespace liveavatar::serve {
namespace {

namespace fs = std::filesystem;
using Paths = std::vector<std::string>;

// Libraries, names of hosts, certificates, users, the time zone; what of the machine its programs read.
constexpr const char* kRead[] = {"/usr/lib",
                                 "/usr/lib64",
                                 "/lib",
                                 "/lib64",
                                 "/usr/share",
                                 "/usr/local/lib",
                                 "/usr/local/share",
                                 "/usr/local/cuda",
                                 "/etc/ld.so.cache",
                                 "/etc/ld.so.conf",
                                 "/etc/ld.so.conf.d",
                                 "/etc/resolv.conf",
                                 "/etc/hosts",
                                 "/etc/host.conf",
                                 "/etc/nsswitch.conf",
                                 "/etc/gai.conf",
                                 "/etc/services",
                                 "/etc/protocols",
                                 "/etc/passwd",
                                 "/etc/group",
                                 "/etc/localtime",
                                 "/etc/timezone",
                                 "/etc/ssl/certs",
                                 "/etc/ssl/openssl.cnf",
                                 "/etc/ca-certificates",
                                 "/etc/pki",
                                 "/etc/crypto-policies",
                                 "/etc/gnutls",
                                 "/run/systemd/resolve",
                                 "/run/NetworkManager",
                                 "/proc/self",
                                 "/proc/cpuinfo",
                                 "/proc/meminfo",
                                 "/proc/stat",
                                 "/proc/loadavg",
                                 "/proc/filesystems",
                                 "/proc/devices",
                                 "/proc/modules",
                                 "/proc/sys",
                                 "/proc/driver",
                                 "/sys/devices",
                                 "/sys/bus",
                                 "/sys/class",
                                 "/sys/module",
                                 "/sys/fs/cgroup",
                                 "/sys/kernel/mm",
                                 "/dev/random",
                                 "/dev/urandom"};
constexpr const char* kWrite[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/shm"};
constexpr const char* kPulse = "/.config/pulse";  // below the home
// Lists with ":" between.
constexpr const char* kReadVariables[] = {"LD_LIBRARY_PATH", "GST_PLUGIN_PATH",        "GST_PLUGIN_PATH_1_0",
                                          "GST_REGISTRY",    "GST_PLUGIN_SYSTEM_PATH", "GST_REGISTRY_1_0",
                                          "SSL_CERT_FILE",   "SSL_CERT_DIR",           "ESPEAK_DATA_PATH"};

// A folder of the hub is links to files elsewhere; Landlock asks for those.
void add_with_links(Paths& paths, const fs::path& path, int depth = 0) {
  constexpr int kDepth = 4;
  std::error_code ignored;
  if (depth == 0) paths.push_back(path.string());
  if (depth > kDepth || !fs::is_directory(path, ignored)) return;
  for (const fs::path& entry : folder_entries(path)) {
    if (fs::is_symlink(entry, ignored)) {
      paths.push_back(entry.string());
    } else {
      add_with_links(paths, entry, depth + 1);
    }
  }
}

void add_models(Paths& paths, const EngineOptions& e) {
  for (const std::string* path : {&e.checkpoint_dir, &e.dit_path, &e.text_encoder, &e.vae, &e.audio_encoder,
                                  &e.tokenizer, &e.lora_path, &e.packed_dit})
    if (!path->empty()) add_with_links(paths, *path);
  for (const LoraOptions& lora : e.loras) add_with_links(paths, lora.path);
}

void add_plugins(Paths& paths) {
  for (const char* name : {"webrtc", "espeak"}) paths.push_back(fs::path(find_plugin(name)).parent_path().string());
  const char* home = std::getenv("HOME");
  if (home != nullptr) paths.push_back(std::string(home) + "/.cache/gstreamer-1.0");
  if (home != nullptr) paths.push_back(std::string(home) + kPulse);
  for (const char* variable : kReadVariables) {
    const char* value = std::getenv(variable);
    std::istringstream list(value != nullptr ? value : "");
    for (std::string path; std::getline(list, path, ':');)
      if (!path.empty()) paths.push_back(path);
  }
}

// The devices, and what the driver keeps of what it compiled.
void add_cards(Paths& paths) {
  for (const fs::path& entry : folder_entries("/dev"))
    if (entry.filename().string().starts_with("nvidia")) paths.push_back(entry.string());
  if (const char* cache = std::getenv("CUDA_CACHE_PATH")) paths.push_back(cache);
  if (const char* home = std::getenv("HOME")) paths.push_back(std::string(home) + "/.nv");
}

// espeak-ng links PulseAudio, which makes a folder in /tmp when it is loaded, and prints a line where it cannot.
void give_pulse_a_folder() {
  const char* home = std::getenv("HOME");
  if (home == nullptr) return;
  const std::string path = std::string(home) + kPulse;
  std::error_code ignored;
  fs::create_directory(path, ignored);
  if (fs::is_directory(path, ignored)) ::setenv("PULSE_RUNTIME_PATH", path.c_str(), 0);
}

// A rule is of a file that is there; what is wrong with it, AccessLog::open says.
void make_log(const std::string& path) {
  constexpr mode_t kMode = 0640;
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, kMode);
  if (fd >= 0) ::close(fd);
}

}  // namespace

sandbox::FileRules files_of(const ServeOptions& options) {
  sandbox::FileRules rules;
  rules.read.assign(std::begin(kRead), std::end(kRead));
  rules.write.assign(std::begin(kWrite), std::end(kWrite));
  add_models(rules.read, options.engine);
  add_plugins(rules.read);
  for (const KeptPortrait& portrait : options.portraits) rules.read.push_back(portrait.path);
  rules.read.push_back(options.server.tls_certificate_file);
  rules.read.push_back(options.server.tls_key_file);
  std::error_code ignored;
  rules.write.push_back(options.work_dir.empty() ? fs::temp_directory_path(ignored).string() : options.work_dir);
  rules.write.push_back(options.engine.paging_dir);
  if (options.access_log != "off") rules.write.push_back(options.access_log);
  if (options.engine.device.starts_with("cuda")) add_cards(rules.write);
  std::erase(rules.read, "");
  std::erase(rules.write, "");
  return rules;
}

Expected<Lockdown> lock_down(const ServeOptions& options) {
  if (options.sandbox == SandboxMode::kOff) return Lockdown{"off", {}};
  if (!options.access_log.empty() && options.access_log != "off") make_log(options.access_log);
  give_pulse_a_folder();
  const Status files = sandbox::restrict_files(files_of(options)), calls = sandbox::restrict_calls();
  std::string missing;
  for (const Status* status : {&files, &calls})
    if (!status->ok()) missing += (missing.empty() ? "" : "; ") + status->message();
  if (!missing.empty() && options.sandbox == SandboxMode::kOn)
    return unsupported("`sandbox` on: " + missing + "; or start with `sandbox` auto");
  Lockdown lock{"on", {}};
  if (!files.ok()) lock.state = calls.ok() ? "calls" : "off";
  if (files.ok() && !calls.ok()) lock.state = "files";
  if (!missing.empty()) lock.note = "the sandbox is not whole (" + lock.state + "): " + missing;
  // GStreamer looks at its plugins in a program of its own; it does it itself where it is told so.
  if (lock.state != "off") ::setenv("GST_REGISTRY_FORK", "no", 1);
  return lock;
}

}  // namespace liveavatar::serve
