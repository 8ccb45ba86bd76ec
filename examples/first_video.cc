// The library in one page: load a checkpoint, make a talking video, stop after 60 s of it, or after SECONDS.
// Usage: first_video CHECKPOINT PORTRAIT VOICE OUT.mp4 [SECONDS]
#include <cstdio>
#include <cstdlib>

#include "liveavatar/liveavatar.h"

namespace {

int fail(const liveavatar::Status& status) {
  std::fprintf(stderr, "first_video: %s\n", status.message().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 && argc != 6) {
    std::fprintf(stderr, "usage: first_video CHECKPOINT PORTRAIT VOICE OUT.mp4 [SECONDS]\n");
    return 2;
  }
  const double seconds = argc == 6 ? std::atof(argv[5]) : 60;
  auto engine = liveavatar::Engine::load({.checkpoint_dir = argv[1]});
  if (!engine) return fail(engine.status());

  liveavatar::GenerateRequest request;
  request.image = argv[2];
  request.audio = argv[3];
  request.prompt = "a person talks to the camera";
  request.size = "64*64";
  auto info = (*engine)->describe(request);
  if (!info) return fail(info.status());
  auto file = liveavatar::VideoFile::create(argv[4], *info, request.audio);
  if (!file) return fail(file.status());

  liveavatar::Status written;
  auto status = (*engine)->generate(request, [&](const liveavatar::VideoChunk& chunk) {
    written = (*file)->append(chunk);
    const int64_t done = chunk.first_frame + chunk.frames;
    std::printf("frames %ld..%ld of %ld\n", long(chunk.first_frame), long(done), long(info->frames));
    return written.ok() && double(done) < seconds * double(info->fps);
  });
  auto finished = (*file)->finish();
  if (!written.ok()) return fail(written);
  if (!status.ok() && status.code() != liveavatar::ErrorCode::kCancelled) return fail(status);
  return finished.ok() ? 0 : fail(finished);
}
