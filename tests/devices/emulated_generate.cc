// `liveavatar generate` on the emulated card, for what takes a whole video: tools/mini/evaluate.py --engine
// (docs/cuda.md). Slow: seconds a frame.
//   emulated_generate generate --ckpt_dir DIR --image PNG --audio WAV --prompt TEXT --size W*H --save_file OUT.mp4
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "support/emulated_cuda.h"
#include "support/resolved.h"

namespace liveavatar {
namespace {

using Flags = std::map<std::string, std::string>;

// Flags with a value; others have none.
Flags read_flags(int count, char** arguments) {
  Flags flags;
  for (int i = 2; i + 1 < count; ++i) {
    const std::string name = arguments[i];
    if (!name.starts_with("--") || std::string(arguments[i + 1]).starts_with("--")) continue;
    flags[name.substr(2)] = arguments[++i];
  }
  return flags;
}

template <typename Number>
void read_number(const Flags& flags, const char* name, Number& value) {
  const auto flag = flags.find(name);
  if (flag == flags.end()) return;
  std::from_chars(flag->second.data(), flag->second.data() + flag->second.size(), value);
}

Status generate(const Flags& flags) {
  const std::unique_ptr<DeviceSource> card = emulated_cuda();
  if (card == nullptr) return unsupported("no device emulation in this build");
  EngineOptions options;
  options.checkpoint_dir = flags.at("ckpt_dir");
  options.device = "cuda";
  options.page_weights = false;
  read_number(flags, "threads", options.threads);
  GenerateRequest job;
  job.image = flags.at("image");
  job.audio = flags.at("audio");
  job.prompt = flags.at("prompt");
  job.size = flags.at("size");
  read_number(flags, "sample_steps", job.sample_steps);
  read_number(flags, "base_seed", job.seed);
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Models> models, load_models(options, card.get()));
  LA_ASSIGN_OR_RETURN(ResolvedJob resolved, resolve(resolve_options(*models->checkpoint), job));
  LA_RETURN_IF_ERROR(hear(resolved));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<VideoFile> file,
                      VideoFile::create(flags.at("save_file"), resolved.info, job.audio));
  Status written;
  RunCalls calls;
  calls.on_chunk = [&](const VideoChunk& chunk) {
    std::fprintf(stderr, "frames %ld to %ld of %ld\n", long(chunk.first_frame), long(chunk.first_frame + chunk.frames),
                 long(resolved.info.frames));
    written = file->append(chunk);
    return written.ok();
  };
  const Status ran = run_job(*models, resolved, calls);
  LA_RETURN_IF_ERROR(written);
  LA_RETURN_IF_ERROR(ran);
  return file->finish();
}

}  // namespace
}  // namespace liveavatar

int main(int count, char** arguments) {
  const liveavatar::Flags flags = liveavatar::read_flags(count, arguments);
  for (const char* name : {"ckpt_dir", "image", "audio", "prompt", "size", "save_file"}) {
    if (flags.contains(name)) continue;
    std::fprintf(stderr, "emulated_generate: give --%s\n", name);
    return EXIT_FAILURE;
  }
  const liveavatar::Status status = liveavatar::generate(flags);
  if (!status.ok()) std::fprintf(stderr, "emulated_generate: %s\n", status.message().c_str());
  return status.ok() ? EXIT_SUCCESS : EXIT_FAILURE;
}
