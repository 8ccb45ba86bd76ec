// The public VideoFile: media/video_writer with the voice opened beside it.
#include "core/status.h"
#include "liveavatar/liveavatar.h"
#include "media/audio.h"
#include "media/video_writer.h"

namespace liveavatar {
namespace {

class Mp4File : public VideoFile {
 public:
  explicit Mp4File(std::unique_ptr<VideoWriter> writer) : writer_(std::move(writer)) {}

  Status append(const VideoBlock& block) override {
    int64_t frame_bytes = block.height * block.width * 3;
    for (int64_t f = 0; f < block.frames; ++f) LA_RETURN_IF_ERROR(writer_->write_frame(block.rgb + f * frame_bytes));
    return {};
  }
  Status finish() override { return writer_->finish(); }

 private:
  std::unique_ptr<VideoWriter> writer_;
};

}  // namespace

Expected<std::unique_ptr<VideoFile>> VideoFile::create(const std::string& path, const JobInfo& info,
                                                       const std::string& audio) {
  std::unique_ptr<AudioStream> voice;
  if (!audio.empty()) {
    LA_ASSIGN_OR_RETURN(voice, open_audio(audio));
  }
  VideoWriterOptions options;
  options.width = info.width;
  options.height = info.height;
  options.fps = static_cast<int>(info.fps);
  LA_ASSIGN_OR_RETURN(std::unique_ptr<VideoWriter> writer, VideoWriter::open(path, options, std::move(voice)));
  return std::unique_ptr<VideoFile>(new Mp4File(std::move(writer)));
}

}  // namespace liveavatar
